import ObjectStore

/// The body of a refusal, after a byte that chooses the status.
@Sendable func fuzzS3Error(_ bytes: [UInt8]) {
  guard let first = bytes.first else { return }
  let statuses = [200, 206, 301, 307, 400, 401, 403, 404, 408, 412, 416, 429, 500, 501, 503]
  var head = ResponseHead()
  head.take(line: Array("HTTP/1.1 \(statuses[Int(first) % statuses.count]) X".utf8))
  let object = S3Location(bucket: "bucket", key: "key")
  checkMessage(StoreError.answer(to: object, head: head, body: Array(bytes.dropFirst())))
}

/// Status lines and headers, one a line, as libcurl hands them over.
@Sendable func fuzzResponseHead(_ bytes: [UInt8]) {
  var head = ResponseHead()
  for line in bytes.split(separator: 0x0a, omittingEmptySubsequences: false) {
    head.take(line: line)
  }
  if let range = head.contentRange { checkRange(range) }
  let object = S3Location(bucket: "bucket", key: "key")
  checkMessage(StoreError.answer(to: object, head: head, body: []))
}

@Sendable func fuzzContentRange(_ bytes: [UInt8]) {
  if let range = ContentRange(parsing: String(decoding: bytes, as: UTF8.self)) { checkRange(range) }
}

private func checkRange(_ range: ContentRange) {
  if let bytes = range.range {
    check(!bytes.isEmpty && bytes.upperBound <= range.totalSizeInBytes, "\(range)")
  }
  check(ContentRange(parsing: range.description) == range, "\(range) reads differently")
}

/// `credentials`, a zero byte, and `config`; the profile is the default one or `p`.
@Sendable func fuzzSharedFiles(_ bytes: [UInt8]) {
  let texts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
    .map { String(decoding: $0, as: UTF8.self) }
  let files = SharedFiles(environment: ["HOME": "/home"]) { path in
    path.hasSuffix("config") ? (texts.count > 1 ? texts[1] : nil) : texts.first
  }
  for profile in [nil, "p"] {
    do {
      _ = try ProfileCredentials(profileNamed: profile, sharedFiles: files).credentials()
      _ = try files.profile(named: profile)?["region"]
    } catch {
      checkMessage(error)
    }
  }
}
