import NIOConcurrencyHelpers
import NIOHTTP1

/// The state that all connections share, and that outlives a stop and a start: buckets, faults,
/// account.
final class OriginService: Sendable {
  let configuration: OriginConfiguration
  let store: BucketStore
  let ledger = RequestLedger()
  let connections = ConnectionRegistry()
  private let router: RequestRouter
  private let faults: NIOLockedValueBox<FaultSchedule>
  private let credentials: NIOLockedValueBox<[String: OriginCredential]>

  init(_ configuration: OriginConfiguration) {
    self.configuration = configuration
    store = BucketStore(
      rootFolder: configuration.rootFolder, bucketFolders: configuration.bucketFolders)
    router = RequestRouter(store: store, region: configuration.region)
    faults = NIOLockedValueBox(FaultSchedule(configuration.faultPlan))
    credentials = NIOLockedValueBox(configuration.credentials)
  }

  var now: Timestamp { .now(offset: configuration.clockOffset) }

  var faultPlan: FaultPlan {
    get { faults.withLockedValue { $0.plan } }
    set { faults.withLockedValue { $0 = FaultSchedule(newValue) } }
  }

  func setCredentials(_ credentials: [String: OriginCredential]) {
    self.credentials.withLockedValue { $0 = credentials }
  }

  func nextFault(for request: S3Request) -> Fault? {
    faults.withLockedValue { $0.fault(for: request) }
  }

  /// Makes the answer to a request; blocks on the disk.
  func answer(_ request: S3Request, fault: Fault?, requestID: String) -> Answer {
    do throws(S3Error) {
      if let error = fault?.error(for: request, now: now) { throw error }
      let check = SignatureCheck(
        credentials: credentials.withLockedValue { $0 },
        allowsAnonymous: configuration.allowsAnonymous, region: configuration.region)
      try check.check(request, now: now)
      return try router.answer(request, ignoringRange: fault == .ignoreRange)
    } catch {
      return Answer(error, to: request.head, requestID: requestID)
    }
  }

  /// The headers that every answer has.
  func addCommonHeaders(to headers: inout HTTPHeaders, requestID: String) {
    headers.add(name: "x-amz-request-id", value: requestID)
    headers.add(name: "x-amz-id-2", value: "embedded-s3-origin")
    headers.add(name: "Date", value: now.httpDate)
    headers.add(name: "Server", value: "EmbeddedS3Origin")
  }
}

extension Fault {
  /// The error that this fault answers with, if it is of that sort.
  fileprivate func error(for request: S3Request, now: Timestamp) -> S3Error? {
    switch self {
    case .status(let status, let code, let retryAfter):
      S3Error(
        status: (200...599).contains(status) ? status : 500, code: code,
        message: "This answer was planned as a fault.",
        headers: retryAfter.map { [("Retry-After", "\($0)")] } ?? [])
    case .redirect(let region):
      .permanentRedirect(bucket: request.bucket, region: region)
    case .wrongRegion(let expected):
      .wrongRegion(asked: "", expected: expected)
    case .clockSkew:
      .requestTimeTooSkewed(
        requestTime: request.head.headers.first(name: "x-amz-date") ?? "", serverTime: now)
    default: nil
    }
  }
}
