import AWSCredentials
import HTTPTransfer
import Locks

/// What was learnt from the store's refusals: where a bucket is, how far the clocks are apart, and
/// that credentials were renewed.
///
/// These refusals do not pass by themselves, but their responses say or suggest a correction; so
/// the request is sent again with it, once for each kind of correction, and every later request has
/// it from the start. The layers above do not notice. A refusal without a correction is not
/// retried: credentials that are refused and are still the same after a refresh would only be
/// refused once more.
///
/// The response to a refused HEAD has no body, and so no code: status, date and region have to
/// suffice.
final class Corrections: Sendable {
  enum Correction: Hashable { case credentials, clock, region }

  /// The values that a request was signed with.
  struct Signing: Sendable {
    let credentials: Credentials?
    let region: String
    let endpoint: S3Endpoint
    let secondsSinceEpoch: Int64
  }

  private struct State {
    var regions: [String: String] = [:]
    var clockOffsetInSeconds: Int64 = 0
  }

  /// The greatest clock skew that stores accept: a quarter of an hour before or after their time.
  private static let greatestSkewInSeconds: Int64 = 15 * 60

  private let endpoint: S3Endpoint
  private let region: String
  private let clock: @Sendable () -> Int64
  private let state = Lock(State())

  init(
    endpoint: S3Endpoint, region: String, clock: @escaping @Sendable () -> Int64
  ) {
    self.endpoint = endpoint
    self.region = region
    self.clock = clock
  }

  /// The values with which to sign a request for the bucket.
  func signing(forBucket bucket: String, with credentials: Credentials?) -> Signing {
    state.withLock { state in
      let learnt = state.regions[bucket]
      return Signing(
        credentials: credentials, region: learnt ?? region,
        endpoint: learnt.map { endpoint.endpoint(inRegion: $0) } ?? endpoint,
        secondsSinceEpoch: clock() + state.clockOffsetInSeconds)
    }
  }

  /// The correction to make after this refusal; nil if there is none. A clock offset or a region
  /// has then been noted for later requests; credentials still have to be renewed.
  func learn(from error: StoreError, _ head: ResponseHead, _ used: Signing) -> Correction? {
    let bucket = error.object.bucket
    switch error.kind {
    case .clockSkew:
      return adjustClock(to: head.date)
    case .expiredToken, .invalidCredentials:
      return used.credentials == nil ? nil : .credentials
    case .wrongRegion(let region?):
      return move(bucket, to: region, from: used.region)
    case .accessDenied, .refused:
      guard error.code == nil, error.httpStatus == 400 || error.httpStatus == 403 else {
        return nil
      }
      if used.credentials != nil, let date = head.date.flatMap({ HTTPDate(parsing: $0) }),
        (date.secondsSinceEpoch - used.secondsSinceEpoch).magnitude > Self.greatestSkewInSeconds
      {
        return adjustClock(to: head.date)
      }
      if error.httpStatus == 400, let region = head.bucketRegion,
        let correction = move(bucket, to: region, from: used.region)
      {
        return correction
      }
      return used.credentials?.sessionToken == nil ? nil : .credentials
    default:
      return nil
    }
  }

  private func adjustClock(to date: String?) -> Correction? {
    guard let date = date.flatMap({ HTTPDate(parsing: $0) }) else { return nil }
    state.withLock { $0.clockOffsetInSeconds = date.secondsSinceEpoch - clock() }
    return .clock
  }

  private func move(_ bucket: String, to region: String, from used: String) -> Correction? {
    guard region != used, Region.isValid(region) else { return nil }
    state.withLock { $0.regions[bucket] = region }
    return .region
  }
}
