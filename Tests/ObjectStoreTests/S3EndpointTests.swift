import AWSCredentials
import Testing

@testable import ObjectStore

@Suite struct S3EndpointTests {
  @Test(
    "AWS's endpoint holds the bucket in its host, in the domain of the region's partition",
    arguments: [
      ("eu-west-1", "https://bucket-1.s3.eu-west-1.amazonaws.com/k"),
      ("us-east-1", "https://bucket-1.s3.us-east-1.amazonaws.com/k"),
      ("us-gov-west-1", "https://bucket-1.s3.us-gov-west-1.amazonaws.com/k"),
      ("cn-north-1", "https://bucket-1.s3.cn-north-1.amazonaws.com.cn/k"),
      ("us-iso-east-1", "https://bucket-1.s3.us-iso-east-1.c2s.ic.gov/k"),
      ("us-isob-east-1", "https://bucket-1.s3.us-isob-east-1.sc2s.sgov.gov/k"),
    ])
  func regions(region: String, url: String) throws {
    let target = try S3Endpoint(region: region).target(bucket: "bucket-1", key: "k")
    #expect(target.url == url)
    #expect(target.canonicalURI == "/k")
  }

  @Test(
    "A bucket that cannot be part of a host, or would not match its certificate, goes into the path",
    arguments: [
      "my.bucket", "My-Bucket", "under_score", "-x-", "ab", String(repeating: "a", count: 64),
    ])
  func pathStyle(bucket: String) throws {
    let target = try S3Endpoint(region: "eu-west-1").target(bucket: bucket, key: "k")
    #expect(target.host == "s3.eu-west-1.amazonaws.com")
    #expect(target.canonicalURI == "/\(bucket)/k")
  }

  @Test(
    "A custom endpoint holds the bucket in its path",
    arguments: [
      ("http://127.0.0.1:8333", "127.0.0.1:8333", "/b/k"), ("http://minio", "minio", "/b/k"),
      ("https://Store.Example/", "store.example", "/b/k"),
      ("HTTPS://store.example:443", "store.example", "/b/k"),
      ("http://store.example:443", "store.example:443", "/b/k"),
      ("http://h:80/", "h", "/b/k"), ("http://h:080", "h", "/b/k"),
      ("http://h/base/path//", "h", "/base/path/b/k"), ("http://h/a%20b", "h", "/a%20b/b/k"),
      ("http://[::1]:9000", "[::1]:9000", "/b/k"), ("https://[FE80::1]", "[fe80::1]", "/b/k"),
      ("http://minio_1:9000", "minio_1:9000", "/b/k"),
    ])
  func custom(url: String, host: String, uri: String) throws {
    let target = try S3Endpoint(url: url).target(bucket: "b", key: "k")
    #expect(target.host == host)
    #expect(target.canonicalURI == uri)
    #expect(
      target.url == "\(url.lowercased().hasPrefix("https") ? "https" : "http")://\(host)\(uri)")
  }

  @Test(
    "Anything else is not an endpoint",
    arguments: [
      "", "localhost:9000", "s3://b/k", "ftp://h", "http:", "http:/", "http://", "http:///k",
      "http://:80", "http://h:", "http://h:0", "http://h:65536", "http://h:+80", "http://h:8o",
      "http://u:p@h", "http://h?x=y", "http://h/?x", "http://h/#f", "http://h h", "http://h\n",
      "http://[::1", "http://[]", "http://[::1]x", "http://[::1]:", "http://hüst", "http://h/a b",
      "//h", "http//h",
    ])
  func notAnEndpoint(url: String) {
    let error = #expect(throws: S3EndpointError.self) { try S3Endpoint(url: url) }
    #expect(error?.description.contains("http://host:port") == true)
  }

  @Test("The address is the flag's, else the environment's, else the profile's, else none")
  func configured() throws {
    let files = SharedFiles(environment: ["HOME": "/h"]) { path throws(CredentialsError) in
      guard path == "/h/.aws/config" else { return nil }
      return """
        [default]
        endpoint_url = http://profile
        services = local
        [profile general]
        endpoint_url = http://general
        services = without
        [profile lost]
        services = gone
        [services local]
        dynamodb =
          endpoint_url = http://other-service
        s3 =
          addressing_style = path
          endpoint_url = http://profile-s3
        [services without]
        endpoint_url = http://of-no-service
        """
    }
    var environment = ["AWS_ENDPOINT_URL_S3": "http://s3", "AWS_ENDPOINT_URL": "http://all"]
    func url(_ explicit: String?, profile: String? = nil) throws -> String? {
      try S3Endpoint.configuredURL(
        explicit: explicit, environment: environment, profile: files.profile(named: profile),
        in: files)
    }
    #expect(try url("http://flag") == "http://flag")
    #expect(try url(nil) == "http://s3")
    environment["AWS_ENDPOINT_URL_S3"] = " "
    #expect(try url(nil) == "http://all")
    environment["AWS_ENDPOINT_URL"] = nil
    #expect(try url(nil) == "http://profile-s3")
    #expect(try url(nil, profile: "general") == "http://general")
    let error = #expect(throws: CredentialsError.self) { try url(nil, profile: "lost") }
    #expect(error?.description.contains("services = gone") == true)
    environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true"
    #expect(try url(nil) == nil)
    #expect(try url("http://flag") == "http://flag")
    let none = SharedFiles(environment: [:]) { _ in nil }
    #expect(
      try S3Endpoint.configuredURL(explicit: nil, environment: [:], profile: nil, in: none) == nil)
  }

  @Test(
    "A region that cannot be part of a host is refused",
    arguments: ["", "eu west", "eu-west-1.evil.example/", "EU-WEST-1", "-", "a\n"])
  func notARegion(region: String) {
    let error = #expect(throws: S3EndpointError.self) { try S3Endpoint(region: region) }
    #expect(error?.description.contains("--region") == true)
  }

  @Test(
    "Each byte of a key but the unreserved and the slash is encoded, and nothing is normalised",
    arguments: [
      ("a/b.csv.gz", "a/b.csv.gz"), ("a//b/../c/./d/", "a//b/../c/./d/"), ("/a", "/a"),
      ("az-AZ_09.~", "az-AZ_09.~"), ("a b+c", "a%20b%2Bc"), ("%20", "%2520"),
      ("é日😀", "%C3%A9%E6%97%A5%F0%9F%98%80"), ("e\u{301}", "e%CC%81"), ("\0\n\u{7f}", "%00%0A%7F"),
      (
        "?#&=:@!$'()*,;\"<>[]\\^`{|}",
        "%3F%23%26%3D%3A%40%21%24%27%28%29%2A%2C%3B%22%3C%3E%5B%5D%5C%5E%60%7B%7C%7D"
      ),
    ])
  func canonicalURI(key: String, encoded: String) throws {
    let target = try S3Endpoint(region: "eu-west-1").target(bucket: "bucket", key: key)
    #expect(target.canonicalURI == "/\(encoded)")
    #expect(target.url == "https://bucket.s3.eu-west-1.amazonaws.com/\(encoded)")
  }

  @Test("A query is encoded and sorted, by the encoded names and then the values")
  func query() throws {
    let target = try S3Endpoint(url: "http://h").target(
      bucket: "b",
      query: [
        QueryItem("prefix", "a/b c"), QueryItem("list-type", "2"), QueryItem("acl"),
        QueryItem("a", "2"), QueryItem("a", "1"), QueryItem("é", "+"),
      ])
    #expect(target.canonicalQuery == "%C3%A9=%2B&a=1&a=2&acl=&list-type=2&prefix=a%2Fb%20c")
    #expect(target.url == "http://h/b/?\(target.canonicalQuery)")
  }

  @Test("A bucket's name cannot change the path")
  func oddBucket() throws {
    let target = try S3Endpoint(url: "http://h").target(bucket: "a/../b?", key: "k")
    #expect(target.canonicalURI == "/a%2F..%2Fb%3F/k")
  }
}

@Suite struct S3LocationTests {
  @Test(
    "A location's key is kept verbatim",
    arguments: [
      ("s3://b/k", "b", "k"), ("S3://b/a/b", "b", "a/b"), ("s3://b//k", "b", "/k"),
      ("s3://b/a%20b+?#x", "b", "a%20b+?#x"), ("s3://b/../x/", "b", "../x/"),
      ("s3://b/ ", "b", " "),
    ])
  func parsing(text: String, bucket: String, key: String) throws {
    let location = try S3Location(parsing: text)
    #expect(location == S3Location(bucket: bucket, key: key))
  }

  @Test(
    "What is missing is named",
    arguments: [
      ("", "does not start with s3://"), ("http://b/k", "does not start with s3://"),
      ("s3:/b/k", "does not start with s3://"), ("s3://", "names no bucket"),
      ("s3:///k", "names no bucket"), ("s3://b", "names no key"), ("s3://b/", "names no key"),
      ("s3://../k", "has '..' where a bucket's name should be"),
      ("s3://a b/k", "where a bucket's name should be"),
      ("s3://a\u{1b}/k", #"has 'a\u{1b}' where a bucket's name should be"#),
    ])
  func missing(text: String, found: String) {
    let error = #expect(throws: S3LocationError.self) { try S3Location(parsing: text) }
    #expect(error?.description.contains(found) == true, "\(String(describing: error))")
    #expect(error?.description.contains("s3://bucket/key") == true)
  }

  @Test("Control characters are escaped when it is printed, and only then")
  func description() throws {
    let location = try S3Location(parsing: "s3://b/a\u{1b}[2J\n\u{202e}é")
    #expect(location.key == "a\u{1b}[2J\n\u{202e}é")
    #expect("\(location)" == #"s3://b/a\u{1b}[2J\u{a}\u{202e}é"#)
  }
}

@Suite struct RegionEndpointTests {
  @Test("Only AWS's endpoint is exchanged for that of another region, within the same partition")
  func endpoints() throws {
    let aws = try S3Endpoint(region: "eu-west-1")
    #expect(aws.endpoint(inRegion: "us-east-2").description == "https://s3.us-east-2.amazonaws.com")
    for region in ["cn-north-1", "evil.example", "a/b", ""] {
      #expect(aws.endpoint(inRegion: region) == aws, "\(region)")
    }
    for url in ["https://store.example:9000/base", "https://s3.eu-west-1.amazonaws.com"] {
      let other = try S3Endpoint(url: url)
      #expect(other.endpoint(inRegion: "us-east-2") == other)
    }
  }
}
