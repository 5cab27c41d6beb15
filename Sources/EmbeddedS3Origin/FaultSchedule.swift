/// A fault plan under way: how many requests each rule has seen, and how often it has applied.
struct FaultSchedule: Sendable {
  private struct Progress {
    var matches = 0
    var applications = 0
  }

  let plan: FaultPlan
  private var progress: [Progress]

  init(_ plan: FaultPlan) {
    self.plan = plan
    progress = Array(repeating: Progress(), count: plan.rules.count)
  }

  /// Every rule counts the request, also those behind the one that applies, so that adding a rule
  /// in front does not change which request is another rule's second.
  mutating func fault(for request: S3Request) -> Fault? {
    var chosen: Fault?
    for (index, rule) in plan.rules.enumerated() where rule.match.accepts(request) {
      progress[index].matches += 1
      let matches = progress[index].matches
      guard chosen == nil,
        progress[index].applications < rule.times ?? Int.max,
        rule.match.nth ?? matches == matches,
        matches > rule.match.skippingFirst ?? 0,
        draw(rule: index, match: matches) < rule.match.probability ?? 1
      else { continue }
      progress[index].applications += 1
      chosen = rule.fault
    }
    return chosen
  }

  /// A random number from 0 up to, not including, 1. It depends only on the seed, the rule and the
  /// count, so rules do not disturb each other's draws. The mixing is SplitMix64's.
  private func draw(rule: Int, match: Int) -> Double {
    var bits = plan.seed &+ 0x9E37_79B9_7F4A_7C15 &* UInt64(match)
    bits ^= 0xD1B5_4A32_D192_ED03 &* UInt64(rule + 1)
    bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
    bits ^= bits >> 31
    return Double(bits >> 11) / Double(1 << 53)
  }
}

extension FaultMatch {
  fileprivate func accepts(_ request: S3Request) -> Bool {
    if let bucket, !request.bucket.utf8.elementsEqual(bucket.utf8) { return false }
    if let keyPrefix, !request.key.utf8.starts(with: keyPrefix.utf8) { return false }
    if let keySuffix, !request.key.utf8.reversed().starts(with: keySuffix.utf8.reversed()) {
      return false
    }
    if let method, request.head.method.rawValue != method { return false }
    if let operation, request.operation != operation { return false }
    if let rangeOverlaps, let range = request.range, !range.overlaps(rangeOverlaps) {
      return false
    }
    return true
  }
}
