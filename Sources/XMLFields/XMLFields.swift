import CExpat
import PrintableText

/// The texts of the elements within one element of a small XML document.
package struct XMLFields {
  /// The largest document that is read; real ones have some hundred bytes.
  package static let largestDocumentInBytes = 64 << 10

  private let fields: [String: String]

  /// Reads a document. Returns nil if it is too large, is not XML in UTF-8, or has what AWS never
  /// writes: a document type, a processing instruction, or elements more than eight deep. A
  /// document that is cut off has the fields that are complete.
  package init?(parsing document: [UInt8], within element: String) {
    guard document.count <= Self.largestDocumentInBytes else { return nil }
    let collector = FieldCollector(within: element)
    guard collector.take(document) else { return nil }
    fields = collector.fields
  }

  package subscript(name: String) -> String? { fields[name]?.trimmedOfSpaces }
}

/// Owns a parser of Expat's, which calls it back from within `take`, and from nowhere else.
private final class FieldCollector {
  private let parser: XML_Parser?
  private let element: String
  private(set) var fields: [String: String] = [:]
  private var path: [String] = []
  private var text: [UInt8] = []

  init(within element: String) {
    self.element = element
    // The encoding is given, so that the one that a document declares is not heeded. Names keep
    // their prefixes: AWS has none.
    parser = XML_ParserCreate("UTF-8")
  }

  deinit { XML_ParserFree(parser) }

  /// Returns whether `document`, to be given once, is well-formed as far as it goes, and was not
  /// refused.
  func take(_ document: [UInt8]) -> Bool {
    guard let parser else { return false }
    // Unretained: `self` outlives the call to XML_Parse, which alone uses the pointer.
    XML_SetUserData(parser, Unmanaged.passUnretained(self).toOpaque())
    XML_SetElementHandler(
      parser, { context, name, _ in FieldCollector.of(context)?.begin(name) },
      { context, _ in FieldCollector.of(context)?.end() })
    XML_SetCharacterDataHandler(parser) { FieldCollector.of($0)?.append($1, count: $2) }
    // AWS writes neither document types nor instructions. Without a type there are no entities that
    // could expand, and nothing that a parser would fetch.
    XML_SetStartDoctypeDeclHandler(parser) { context, _, _, _, _ in
      FieldCollector.of(context)?.refuse()
    }
    XML_SetProcessingInstructionHandler(parser) { context, _, _ in
      FieldCollector.of(context)?.refuse()
    }
    // 0: more might come, so that a document that is cut off is no error.
    return withExtendedLifetime(self) {
      document.withUnsafeBytes { bytes in
        XML_Parse(
          parser, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count), 0)
          == XML_STATUS_OK
      }
    }
  }

  /// `context` is what `take` has set, and valid for as long as Expat calls handlers.
  private static func of(_ context: UnsafeMutableRawPointer?) -> FieldCollector? {
    context.map { Unmanaged.fromOpaque($0).takeUnretainedValue() }
  }

  /// Makes XML_Parse return an error. Expat may still call `end` once, for an element without
  /// content.
  private func refuse() { XML_StopParser(parser, XML_Bool(XML_FALSE)) }

  /// `name` is a string of C's that is valid until the handler returns, so it is copied.
  private func begin(_ name: UnsafePointer<XML_Char>?) {
    path.append(name.map { String(cString: $0) } ?? "")
    text.removeAll()
    // An error has two levels, or three in services that wrap it; a service's answer has four.
    if path.count > 8 { refuse() }
  }

  private func end() {
    guard let name = path.popLast() else { return }
    // Only now is the text known to be whole.
    if path.last == element { fields[name] = String(decoding: text, as: UTF8.self) }
    text.removeAll()
  }

  /// `characters` are `count` bytes that are valid until the handler returns, so they are copied.
  private func append(_ characters: UnsafePointer<XML_Char>?, count: Int32) {
    text += UnsafeRawBufferPointer(start: characters, count: Int(count))
  }
}
