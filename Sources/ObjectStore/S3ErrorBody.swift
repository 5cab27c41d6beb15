import XMLFields

/// The XML with which S3 explains a refusal ("Error responses" in the Amazon S3 API Reference).
///
/// Servers and proxies in between may respond with anything else, so a body that cannot be read is
/// nil, and never an error of its own: the status suffices.
public struct S3ErrorBody: Sendable, Equatable {
  public var code: String
  public var message: String?
  public var requestID: String?
  /// The region to sign for, when the request was signed for another one.
  public var region: String?

  public static let maximumSizeInBytes = XMLFields.largestDocumentInBytes

  /// Reads a body; nil if it is too large, not XML, or not an error with a code.
  public init?(parsing body: [UInt8]) {
    guard let fields = XMLFields(parsing: body, within: "Error"), let code = fields["Code"] else {
      return nil
    }
    self.code = code
    message = fields["Message"]
    requestID = fields["RequestId"]
    region = fields["Region"]
  }
}
