import FoundationEssentials
import FoundationXML

/// The XML with which S3 explains a refusal ("Error responses" in the Amazon S3 API Reference).
///
/// Servers and proxies in between may answer with anything else, so what cannot be read is nil, and never an
/// error of its own: the status says enough.
public struct S3ErrorBody: Sendable, Equatable {
  public var code: String
  public var message: String?
  public var requestID: String?
  /// The region to sign for, where it was the wrong one.
  public var region: String?

  /// Real ones have some hundred bytes.
  public static let maximumSizeInBytes = 64 << 10

  /// Nil if the body is too large, not XML, or not an error with a code.
  public init?(parsing body: [UInt8]) {
    guard body.count <= Self.maximumSizeInBytes, body.contains(UInt8(ascii: "<")) else {
      return nil
    }
    // FoundationXML ends the process at an element's name that is not UTF-8 and at a processing instruction without
    // data. So the declaration goes, and with it whatever encoding it names, and no other instruction may come.
    guard var text = String(validating: body, as: UTF8.self)?[...] else { return nil }
    if text.hasPrefix("<?xml"), let end = text.firstRange(of: "?>") {
      text = text[end.upperBound...]
    }
    // S3 never declares a document type, and without one there are no entities that could expand.
    guard !text.contains("<?"), !text.contains("<!DOCTYPE") else { return nil }
    let fields = FieldCollector()
    let parser = XMLParser(data: Data(text.utf8))
    parser.shouldResolveExternalEntities = false
    parser.delegate = fields
    guard parser.parse(), let code = fields["Code"] else { return nil }
    self.code = code
    message = fields["Message"]
    requestID = fields["RequestId"]
    region = fields["Region"]
  }
}

/// Gathers the texts of the elements within `Error`.
private final class FieldCollector: XMLParserDelegate {
  private var fields: [String: String] = [:]
  private var path: [String] = []
  private var text = ""

  subscript(name: String) -> String? {
    fields[name]?.trimmedOfSpaces
  }

  func parser(
    _ parser: XMLParser, didStartElement elementName: String, namespaceURI: String?,
    qualifiedName: String?, attributes: [String: String]
  ) {
    path.append(elementName)
    text = ""
    // An error has two levels, or three in services that wrap it.
    if path.count > 8 { parser.abortParsing() }
  }

  func parser(
    _ parser: XMLParser, didEndElement elementName: String, namespaceURI: String?,
    qualifiedName: String?
  ) {
    path.removeLast()
    // Only now is the text known to be whole; bodies are cut off at times, and the parser does not mind.
    if path.last == "Error" { fields[elementName] = text }
    text = ""
  }

  func parser(_ parser: XMLParser, foundCharacters characters: String) {
    text += characters
  }
}
