public import FoundationEssentials

// The decoding is written by hand so that the JSON is easy to type, and so that a misspelt field is
// an error: a fault that silently never happens makes a test pass.

extension FaultPlan {
  /// - Throws: `DecodingError`, which names the field.
  public init(json: Data) throws {
    self = try JSONDecoder().decode(FaultPlan.self, from: json)
  }

  private enum Field: String, CodingKey, CaseIterable { case seed, rules }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseFields(notIn: Field.self)
    let fields = try decoder.container(keyedBy: Field.self)
    seed = try fields.decodeIfPresent(UInt64.self, forKey: .seed) ?? 0
    rules = try fields.decodeIfPresent([FaultRule].self, forKey: .rules) ?? []
  }
}

extension FaultRule {
  private enum Field: String, CodingKey, CaseIterable { case match, times, fault }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseFields(notIn: Field.self)
    let fields = try decoder.container(keyedBy: Field.self)
    match = try fields.decodeIfPresent(FaultMatch.self, forKey: .match) ?? FaultMatch()
    times = try fields.decodeIfPresent(Int.self, forKey: .times)
    fault = try fields.decode(Fault.self, forKey: .fault)
  }
}

extension FaultMatch {
  private enum Field: String, CodingKey, CaseIterable {
    case bucket, keyPrefix, keySuffix, method, operation, rangeOverlaps, nth, skippingFirst
    case probability
  }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseFields(notIn: Field.self)
    let fields = try decoder.container(keyedBy: Field.self)
    self.init(
      bucket: try fields.decodeIfPresent(String.self, forKey: .bucket),
      keyPrefix: try fields.decodeIfPresent(String.self, forKey: .keyPrefix),
      keySuffix: try fields.decodeIfPresent(String.self, forKey: .keySuffix),
      method: try fields.decodeIfPresent(String.self, forKey: .method),
      operation: try fields.decodeIfPresent(S3Operation.self, forKey: .operation),
      rangeOverlaps: try fields.decodeIfPresent(Range<Int>.self, forKey: .rangeOverlaps),
      nth: try fields.decodeIfPresent(Int.self, forKey: .nth),
      skippingFirst: try fields.decodeIfPresent(Int.self, forKey: .skippingFirst),
      probability: try fields.decodeIfPresent(Double.self, forKey: .probability))
  }
}

extension Fault: Codable {
  private enum Field: String, CodingKey, CaseIterable {
    case kind, afterBytes, shiftedBy, differingBy, atOffset, bytesPerSecond
    case status, code, retryAfter, region, milliseconds
  }

  public init(from decoder: any Decoder) throws {
    try decoder.refuseFields(notIn: Field.self)
    let fields = try decoder.container(keyedBy: Field.self)
    func number(_ field: Field) throws -> Int { try fields.decode(Int.self, forKey: field) }
    func duration() throws -> Duration { .milliseconds(try number(.milliseconds)) }
    func region() throws -> String { try fields.decode(String.self, forKey: .region) }
    self =
      switch try fields.decode(Kind.self, forKey: .kind) {
      case .cutBody: .cutBody(afterBytes: try number(.afterBytes))
      case .resetBody: .resetBody(afterBytes: try number(.afterBytes))
      case .stallBody: .stallBody(afterBytes: try number(.afterBytes))
      case .ignoreRange: .ignoreRange
      case .wrongContentRange: .wrongContentRange(shiftedBy: try number(.shiftedBy))
      case .wrongLength: .wrongLength(differingBy: try number(.differingBy))
      case .wrongBytes: .wrongBytes(atOffset: try number(.atOffset))
      case .hangBeforeHead: .hangBeforeHead
      case .trickle: .trickle(bytesPerSecond: try number(.bytesPerSecond))
      case .status:
        .status(
          try number(.status), code: try fields.decode(String.self, forKey: .code),
          retryAfter: try fields.decodeIfPresent(Int.self, forKey: .retryAfter))
      case .redirect: .redirect(region: try region())
      case .wrongRegion: .wrongRegion(expecting: try region())
      case .clockSkew: .clockSkew
      case .delay: .delay(try duration())
      case .refuse: .refuse(try duration())
      }
  }

  public func encode(to encoder: any Encoder) throws {
    var fields = encoder.container(keyedBy: Field.self)
    try fields.encode(kind, forKey: .kind)
    switch self {
    case .cutBody(let bytes), .resetBody(let bytes), .stallBody(let bytes):
      try fields.encode(bytes, forKey: .afterBytes)
    case .wrongContentRange(let bytes): try fields.encode(bytes, forKey: .shiftedBy)
    case .wrongLength(let bytes): try fields.encode(bytes, forKey: .differingBy)
    case .wrongBytes(let offset): try fields.encode(offset, forKey: .atOffset)
    case .trickle(let pace): try fields.encode(pace, forKey: .bytesPerSecond)
    case .status(let status, let code, let retryAfter):
      try fields.encode(status, forKey: .status)
      try fields.encode(code, forKey: .code)
      try fields.encodeIfPresent(retryAfter, forKey: .retryAfter)
    case .redirect(let region), .wrongRegion(let region):
      try fields.encode(region, forKey: .region)
    case .delay(let duration), .refuse(let duration):
      let (seconds, attoseconds) = duration.components
      try fields.encode(seconds * 1000 + attoseconds / 1_000_000_000_000_000, forKey: .milliseconds)
    case .ignoreRange, .hangBeforeHead, .clockSkew: break
    }
  }
}

private struct AnyField: CodingKey {
  let stringValue: String
  let intValue: Int? = nil

  init(stringValue: String) {
    self.stringValue = stringValue
  }

  init?(intValue: Int) {
    nil
  }
}

extension Decoder {
  fileprivate func refuseFields<Field: CodingKey & CaseIterable>(notIn: Field.Type) throws {
    let known = Set(Field.allCases.map(\.stringValue))
    for field in try container(keyedBy: AnyField.self).allKeys
    where !known.contains(field.stringValue) {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(
          codingPath: codingPath,
          debugDescription: "unknown field '\(field.stringValue)'; known are "
            + known.sorted().joined(separator: ", ")))
    }
  }
}
