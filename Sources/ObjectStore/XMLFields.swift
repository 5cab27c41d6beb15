import FoundationEssentials
import FoundationXML

/// The texts of the elements within one element of a small XML document.
struct XMLFields {
  /// Real ones have some hundred bytes.
  static let largestDocumentInBytes = 64 << 10

  private let fields: [String: String]

  /// Nil if the document is too large, not XML, or none that AWS would write.
  init?(parsing document: [UInt8], within element: String) {
    guard document.count <= Self.largestDocumentInBytes, document.contains(UInt8(ascii: "<")) else {
      return nil
    }
    // FoundationXML ends the process at an element's name that is not UTF-8 and at a processing instruction without
    // data. So the declaration goes, and with it whatever encoding it names, and no other instruction may come.
    guard var text = String(validating: document, as: UTF8.self)?[...] else { return nil }
    if text.hasPrefix("<?xml"), let end = text.firstRange(of: "?>") {
      text = text[end.upperBound...]
    }
    // AWS never declares a document type, and without one there are no entities that could expand.
    guard !text.contains("<?"), !text.contains("<!DOCTYPE") else { return nil }
    let collector = FieldCollector(within: element)
    let parser = XMLParser(data: Data(text.utf8))
    parser.shouldResolveExternalEntities = false
    parser.delegate = collector
    guard parser.parse() else { return nil }
    fields = collector.fields
  }

  subscript(name: String) -> String? { fields[name]?.trimmedOfSpaces }
}

private final class FieldCollector: XMLParserDelegate {
  private let element: String
  private(set) var fields: [String: String] = [:]
  private var path: [String] = []
  private var text = ""

  init(within element: String) { self.element = element }

  func parser(
    _ parser: XMLParser, didStartElement elementName: String, namespaceURI: String?,
    qualifiedName: String?, attributes: [String: String]
  ) {
    path.append(elementName)
    text = ""
    // An error has two levels, or three in services that wrap it; a service's answer has four.
    if path.count > 8 { parser.abortParsing() }
  }

  func parser(
    _ parser: XMLParser, didEndElement elementName: String, namespaceURI: String?,
    qualifiedName: String?
  ) {
    path.removeLast()
    // Only now is the text known to be whole; bodies are cut off at times, and the parser does not mind.
    if path.last == element { fields[elementName] = text }
    text = ""
  }

  func parser(_ parser: XMLParser, foundCharacters characters: String) {
    text += characters
  }
}
