/// The faults, and when they happen: rules that are tried in order for each request; the first that
/// applies decides. The same seed and the same order of requests give the same faults.
///
/// As JSON, all fields but `fault.kind` optional, unknown fields refused:
///
///     {"seed": 7, "rules": [
///       {"match": {"keySuffix": ".csv.gz", "method": "GET", "nth": 2}, "times": 1,
///        "fault": {"kind": "cutBody", "afterBytes": 65536}},
///       {"match": {"probability": 0.05},
///        "fault": {"kind": "status", "status": 503, "code": "SlowDown", "retryAfter": 1}}]}
public struct FaultPlan: Codable, Sendable, Equatable {
  public var seed: UInt64
  public var rules: [FaultRule]

  public init(seed: UInt64 = 0, rules: [FaultRule] = []) {
    self.seed = seed
    self.rules = rules
  }
}

public struct FaultRule: Codable, Sendable, Equatable {
  public var match: FaultMatch
  /// How often the rule applies before it is spent; nil for always.
  public var times: Int?
  public var fault: Fault

  public init(_ fault: Fault, when match: FaultMatch = FaultMatch(), times: Int? = nil) {
    self.match = match
    self.times = times
    self.fault = fault
  }
}

/// The requests that a rule applies to: all conditions that are set must hold.
public struct FaultMatch: Codable, Sendable, Equatable {
  public var bucket: String?
  public var keyPrefix: String?
  public var keySuffix: String?
  /// The method, `GET` or `HEAD`; nil for both.
  public var method: String?
  public var operation: S3Operation?
  /// Object bytes that the asked range must touch. A request without a range touches all; one for
  /// the last bytes (`bytes=-n`) touches none, as the size is not known when the fault is chosen.
  public var rangeOverlaps: Range<Int>?
  /// The rule applies only to the nth, from 1, of the requests that meet the conditions above.
  public var nth: Int?
  /// The rule skips this many of the first requests that meet the conditions above.
  public var skippingFirst: Int?
  /// The probability, from 0 to 1, drawn for each request that meets all conditions above.
  public var probability: Double?

  public init(
    bucket: String? = nil, keyPrefix: String? = nil, keySuffix: String? = nil,
    method: String? = nil, operation: S3Operation? = nil, rangeOverlaps: Range<Int>? = nil,
    nth: Int? = nil, skippingFirst: Int? = nil, probability: Double? = nil
  ) {
    self.bucket = bucket
    self.keyPrefix = keyPrefix
    self.keySuffix = keySuffix
    self.method = method
    self.operation = operation
    self.rangeOverlaps = rangeOverlaps
    self.nth = nth
    self.skippingFirst = skippingFirst
    self.probability = probability
  }
}

/// One way to misbehave. Offsets count in the body of the answer, from 0.
public enum Fault: Sendable, Equatable {
  /// Closes the connection in order (FIN) after this many bytes of the body.
  case cutBody(afterBytes: Int)
  /// Resets the connection (RST) after this many bytes of the body.
  case resetBody(afterBytes: Int)
  /// Stops sending after this many bytes of the body, and leaves the connection open.
  case stallBody(afterBytes: Int)
  /// Answers 200 with the whole object whatever the Range header says.
  case ignoreRange
  /// Sends the right bytes under a Content-Range shifted by this many bytes.
  case wrongContentRange(shiftedBy: Int)
  /// Announces an object that is longer, or shorter, by this many bytes: in the total of
  /// Content-Range if the answer is 206, else in Content-Length, and then the connection closes
  /// where the bytes end.
  case wrongLength(differingBy: Int)
  /// Flips one bit of the byte at this offset, or of the last byte if the body is shorter.
  case wrongBytes(atOffset: Int)
  /// Takes the request and never answers.
  case hangBeforeHead
  /// Sends the body at this pace.
  case trickle(bytesPerSecond: Int)
  /// Answers with an error in S3's XML, whatever was requested. `retryAfter` is in seconds.
  case status(Int, code: String, retryAfter: Int? = nil)
  /// Answers with 301 PermanentRedirect to this region.
  case redirect(region: String)
  /// Answers with 400 AuthorizationHeaderMalformed that names this region as the right one.
  case wrongRegion(expecting: String)
  /// Answers with 403 RequestTimeTooSkewed.
  case clockSkew
  /// Delays the right answer by this time.
  case delay(Duration)
  /// Closes this connection without an answer, and the listening socket for this time, so that
  /// connecting is refused. Other connections stay.
  case refuse(Duration)
}

extension Fault {
  var kind: Kind {
    switch self {
    case .cutBody: .cutBody
    case .resetBody: .resetBody
    case .stallBody: .stallBody
    case .ignoreRange: .ignoreRange
    case .wrongContentRange: .wrongContentRange
    case .wrongLength: .wrongLength
    case .wrongBytes: .wrongBytes
    case .hangBeforeHead: .hangBeforeHead
    case .trickle: .trickle
    case .status: .status
    case .redirect: .redirect
    case .wrongRegion: .wrongRegion
    case .clockSkew: .clockSkew
    case .delay: .delay
    case .refuse: .refuse
    }
  }

  enum Kind: String, Codable {
    case cutBody, resetBody, stallBody, ignoreRange, wrongContentRange, wrongLength, wrongBytes
    case hangBeforeHead, trickle, status, redirect, wrongRegion, clockSkew, delay, refuse
  }
}
