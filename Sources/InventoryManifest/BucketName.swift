/// The name of a bucket, in the forms in which manifests and people write it.
public enum BucketName {
  /// What `parse` reads, for messages.
  public static let expectation = "a bucket's name, or an ARN such as arn:aws:s3:::bucket"

  /// Reads a plain name, `s3://name`, an ARN of any partition (`arn:aws:s3:::name`), and the names
  /// that Tencent COS (`qcs::cos:region:uid/1:name-1`) and Alibaba OSS (`acs:oss:region:1:name`)
  /// write. A slash and what follows it are dropped.
  ///
  /// - Returns: the plain name; nil for anything else, such as the ARN of an access point.
  public static func parse(_ text: String) -> String? {
    var name = Substring(text)
    if text.hasPrefix("s3://") {
      name = text.dropFirst("s3://".count)
    } else if text.contains(":") {
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      switch (parts[0], parts.count) {
      // An account, which S3's own ARNs of buckets lack, changes nothing; a region is that of an
      // access point or an outpost.
      case ("arn", 6) where parts[2] == "s3" && parts[3].isEmpty: name = parts[5]
      case ("qcs", 6) where parts[2] == "cos": name = parts[5]
      case ("acs", 5) where parts[1] == "oss": name = parts[4]
      default: return nil
      }
    }
    let plain = name.prefix { $0 != "/" }
    return isName(plain) ? String(plain) : nil
  }

  /// Today's names have 3 to 63 characters; those of before 2018 in us-east-1 up to 255, and also
  /// capitals and underscores ("Bucket naming rules" in the Amazon S3 user guide).
  private static func isName(_ text: Substring) -> Bool {
    (1...255).contains(text.utf8.count) && !text.allSatisfy { $0 == "." }
      && text.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: "._-".utf8.contains(byte)
        }
      }
  }
}
