import EmbeddedS3Origin
import Glibc

/// A file with one line of tab-separated fields per request. Each line is written by one write(2),
/// so that a program that follows the file sees whole lines.
final class RequestLog: Sendable {
  static let columns = [
    "number", "connection", "client", "method", "bucket", "key", "range", "if-match", "status",
    "body-bytes", "fault",
  ]

  private let descriptor: Int32

  /// Opens the file for appending; returns nil if it cannot be written, and errno tells why.
  init?(path: String) {
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { return nil }
  }

  deinit {
    close(descriptor)
  }

  func append(_ record: RequestRecord) {
    let fields = [
      "\(record.number)", "\(record.connection)", record.clientAddress, record.method,
      record.bucket, record.key, record.rangeAsked ?? "-", record.ifMatch ?? "-",
      "\(record.status)", "\(record.bodyBytesSent)", record.fault ?? "-",
    ]
    let line = fields.map(Self.inOneField).joined(separator: "\t") + "\n"
    // A log that cannot be written must not stop the server that it describes.
    _ = Array(line.utf8).withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
  }

  /// Escapes a text, because a key may hold the characters that separate fields and lines.
  private static func inOneField(_ text: String) -> String {
    var field = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": field += "\\\\"
      case "\t": field += "\\t"
      case "\n": field += "\\n"
      case "\r": field += "\\r"
      default: field.unicodeScalars.append(scalar)
      }
    }
    return field
  }
}
