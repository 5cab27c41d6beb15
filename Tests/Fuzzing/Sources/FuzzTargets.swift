/// The decoders of what comes from outside, each as a function that must return for any bytes, and
/// that gives `check` what must hold of the result.
///
/// They are compiled twice: into `fuzzing`, which feeds them with what libFuzzer makes up and whose
/// `check` ends the process, and into the tests, which feed them with the corpus and whose `check`
/// records an issue.
enum FuzzTargets {
  typealias Target = @Sendable ([UInt8]) -> Void

  static let all: [String: Target] = [
    "manifest": fuzzManifest,
    "manifest-checksum": fuzzManifestChecksum,
    "s3-error": fuzzS3Error,
    "response-head": fuzzResponseHead,
    "content-range": fuzzContentRange,
    "parquet-footer": fuzzParquetFooter,
    "cache-index": fuzzCacheIndex,
    "shared-files": fuzzSharedFiles,
    "credentials-answer": fuzzCredentialsAnswer,
  ]
}

/// Messages go to terminals and logs: text from outside in them must be fit for that.
func checkMessage(_ error: some CustomStringConvertible) {
  let text = error.description
  check(
    !text.unicodeScalars.contains { $0.properties.generalCategory == .control },
    "a control character in: \(text)")
}
