import InventoryManifest
import Testing

/// Decodes JSON text as if it had been read from "m.json".
func decode(_ json: String) throws(ManifestError) -> InventoryManifest {
  try InventoryManifest(decoding: Array(json.utf8), from: "m.json")
}

/// A manifest with one field replaced or added.
func manifest(with field: String) -> String {
  #"{"fileFormat": "CSV", "files": [], \#(field)}"#
}

/// A manifest whose only entry has the given fields.
func manifest(withEntry entry: String) -> String {
  #"{"fileFormat": "CSV", "files": [{\#(entry)}]}"#
}

@Suite struct ManifestDecodingTests {
  @Test("A manifest as AWS writes it is read whole")
  func documentedManifest() throws {
    let manifest = try decode(
      #"""
      {
        "sourceBucket" : "src",
        "destinationBucket" : "arn:aws:s3:::dest",
        "version" : "2016-11-30",
        "creationTimestamp" : "1514944800000",
        "fileFormat" : "CSV",
        "fileSchema" : "Bucket, Key, Size",
        "files" : [
          {
            "key" : "inv/src/daily/data/1.csv.gz",
            "size" : 2147483647,
            "MD5checksum" : "f11166069f1990abeb9c97ace9cdfabc"
          },
          { "key" : "inv/src/daily/data/0.csv.gz", "size" : 3, "MD5checksum" : null }
        ]
      }

      """#)
    #expect(
      manifest
        == InventoryManifest(
          destinationBucket: "dest",
          creationTime: .init(millisecondsSinceEpoch: 1_514_944_800_000), fileFormat: .csv,
          fileSchema: "Bucket, Key, Size",
          chunks: [
            .init(
              key: "inv/src/daily/data/1.csv.gz", sizeInBytes: 2_147_483_647,
              md5: MD5Digest(hex: "f11166069f1990abeb9c97ace9cdfabc")),
            .init(key: "inv/src/daily/data/0.csv.gz", sizeInBytes: 3),
          ]))
    #expect(manifest.chunks[0].md5 != nil)
  }

  @Test(
    "A time is also read as ISO 8601 writes it, and as the folder of a date is named",
    arguments: [("2018-01-03T02:40:00Z", "2018-01-03T02-40Z")])
  func otherTimes(text: String, folder: String) throws {
    let time = try decode(manifest(with: #""creationTimestamp": "\#(text)""#)).creationTime
    #expect(time?.millisecondsSinceEpoch == 1_514_947_200_000)
    #expect(InventoryManifest.CreationTime(dateFolder: folder) == time)
  }

  @Test(
    "Only a folder named by a date has a time",
    arguments: [
      "", "2018-01-03", "2018-01-03T02:40Z", "2018-13-03T02-40Z", "2018-01-03T25-40Z",
      "2018-01-03T02-40Zx", "x018-01-03T02-40Z", "TTTTTTTTTTTTTTTTT",
    ])
  func noTimes(folder: String) {
    #expect(InventoryManifest.CreationTime(dateFolder: folder) == nil)
  }

  @Test("A manifest without anything optional is read, and an inventory may be empty")
  func leastManifest() throws {
    #expect(
      try decode(#"{"files":[],"fileFormat":"ORC"}"#)
        == InventoryManifest(fileFormat: .orc, chunks: []))
  }

  @Test(
    "The destination bucket is found in an ARN of any partition, or as it is",
    arguments: [
      ("arn:aws:s3:::dest", "dest"), ("arn:aws-cn:s3:::dest", "dest"),
      ("arn:aws-us-gov:s3:::d.e-st", "d.e-st"), ("arn:aws-iso:s3:::dest", "dest"),
      ("arn:aws-iso-b:s3:::dest", "dest"), ("dest", "dest"), ("arn:aws:s3:::dest/*", "dest"),
      ("arn:aws:s3::123456789012:dest", "dest"), ("s3://dest", "dest"), ("s3://dest/", "dest"),
      ("dest/", "dest"), ("Old_Dest.1", "Old_Dest.1"), ("acs:oss:::dest", "dest"),
      ("acs:oss:oss-cn-hangzhou:1234567890:dest", "dest"),
      ("qcs::cos:ap-guangzhou::dest-1250000000", "dest-1250000000"),
      ("qcs::cos:ap-guangzhou:uid/1250000000:dest-1250000000", "dest-1250000000"),
      ("s3://", nil), ("/", nil), ("..", nil), ("a b", nil), ("b\\n", nil), ("bücket", nil),
      ("", nil), ("arn:aws:s3:::", nil), ("arn:aws:sns:::dest", nil), ("arn:aws", nil),
      ("arn:aws:s3:eu-west-1:123456789012:accesspoint/a", nil),
    ] as [(String, String?)])
  func destinationBucket(text: String, bucket: String?) throws {
    let manifest = try decode(manifest(with: #""destinationBucket": "\#(text)""#))
    #expect(manifest.destinationBucket == bucket)
    #expect((manifest.unusableDestination == nil) == (bucket != nil))
  }

  @Test(
    "A timestamp may be text or a number, in milliseconds or seconds",
    arguments: [
      (#""1514944800123""#, 1_514_944_800_123), ("1514944800123", 1_514_944_800_123),
      (#""1514944800""#, 1_514_944_800_000), ("1514944800", 1_514_944_800_000), ("0", 0),
      ("null", nil), (#""""#, nil), (#""yesterday""#, nil), ("-1", nil), (#""-1514944800""#, nil),
      ("9223372036854775807", nil), ("1e300", nil), ("[]", nil), ("-9223372036854775808", nil),
    ] as [(String, Int64?)])
  func creationTime(json: String, milliseconds: Int64?) throws {
    let manifest = try decode(manifest(with: #""creationTimestamp": \#(json)"#))
    #expect(manifest.creationTime?.millisecondsSinceEpoch == milliseconds)
  }

  @Test(
    "The format's case does not matter",
    arguments: [
      ("CSV", .csv), ("csv", .csv), ("ORC", .orc), ("Orc", .orc), ("Parquet", .parquet),
      ("PARQUET", .parquet), ("parquet", .parquet),
    ] as [(String, InventoryManifest.FileFormat)])
  func fileFormat(name: String, format: InventoryManifest.FileFormat) throws {
    #expect(try decode(#"{"files":[],"fileFormat":"\#(name)"}"#).fileFormat == format)
  }

  @Test("Unknown fields and optional fields of an odd type are ignored")
  func unknownFields() throws {
    let manifest = try decode(
      #"{"files":[{"key":"k","owner":{"id":[1]},"MD5checksum":7}],"fileFormat":"CSV","version":2,"#
        + #""new":{"a":[null]},"fileSchema":["a"],"sourceBucket":{}}"#)
    #expect(manifest == InventoryManifest(fileFormat: .csv, chunks: [.init(key: "k")]))
  }

  @Test(
    "A size may be a number, text, or unknown",
    arguments: [
      (#""size": 0"#, 0), (#""size": 12"#, 12), (#""size": "12""#, 12), (#""size": 12.0"#, 12),
      (#""size": null"#, nil), (#""other": 1"#, nil), (#""size": 54975581388800"#, 50 << 40),
    ] as [(String, UInt64?)])
  func size(field: String, sizeInBytes: UInt64?) throws {
    let manifest = try decode(manifest(withEntry: #""key": "k", \#(field)"#))
    #expect(manifest.chunks.first?.sizeInBytes == sizeInBytes)
  }

  @Test(
    "An absurd size is an error that names the entry, its key and the size",
    arguments: [
      ("-1", "-1"), ("1.5", "1.5"), (#""12 MB""#, "'12 MB'"), (#""""#, "''"), (#""-3""#, "'-3'"),
      ("1e30", "1e+30"), ("18446744073709551616", "e+19"), ("54975581388801", "54975581388801"),
      ("true", "other than a number"), ("[1]", "other than a number"),
    ])
  func absurdSize(json: String, named: String) {
    let error = #expect(throws: ManifestError.self) {
      try decode(
        #"{"fileFormat":"CSV","files":[{"key":"a"},{"key":"b/c.gz","size":\#(json)}]}"#)
    }
    #expect(error?.description.contains("files[1] (key 'b/c.gz')") == true)
    #expect(error?.description.contains(named) == true, "\(String(describing: error))")
  }

  @Test(
    "An MD5 is used if it is one, whatever its case, and otherwise the chunk is not verifiable",
    arguments: [
      ("f11166069f1990abeb9c97ace9cdfabc", "f11166069f1990abeb9c97ace9cdfabc"),
      ("F11166069F1990ABEB9C97ACE9CDFABC", "f11166069f1990abeb9c97ace9cdfabc"),
      ("00000000000000000000000000000001", "00000000000000000000000000000001"),
      ("", nil), ("f11166069f1990abeb9c97ace9cdfabc-12", nil),
      ("f11166069f1990abeb9c97ace9cdfab", nil),
      ("f11166069f1990abeb9c97ace9cdfabg", nil),
    ] as [(String, String?)])
  func md5(text: String, hex: String?) throws {
    let manifest = try decode(manifest(withEntry: #""key": "k", "MD5checksum": "\#(text)""#))
    #expect(manifest.chunks.first?.md5?.description == hex)
  }

  @Test("A key is kept verbatim, escapes decoded and nothing else")
  func verbatimKey() throws {
    let manifest = try decode(
      manifest(withEntry: #""key": "/a/../b%20c+d//\u0000\u00e9\uD83D\uDE00""#))
    #expect(manifest.chunks.first?.key == "/a/../b%20c+d//\0é😀")
  }

  @Test("A byte order mark and white space before the object are skipped")
  func byteOrderMark() throws {
    let manifest = try decode("\u{feff}\r\n\t " + #"{"files":[],"fileFormat":"CSV"}"# + "\n")
    #expect(manifest.fileFormat == .csv)
  }

  @Test("A hundred thousand chunks keep their order")
  func manyChunks() throws {
    let entries = (0..<100_000).map { #"{"key":"data/\#($0).csv.gz","size":\#($0)}"# }
    let manifest = try decode(#"{"fileFormat":"CSV","files":[\#(entries.joined(separator: ","))]}"#)
    #expect(manifest.chunks.count == 100_000)
    #expect(manifest.chunks[99_999] == .init(key: "data/99999.csv.gz", sizeInBytes: 99_999))
  }
}
