// EmbeddedS3Origin
