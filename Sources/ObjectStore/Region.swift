/// The region that requests are signed for.
public enum Region {
  /// Also right for most stores that are not AWS, which accept or expect this one.
  public static let fallback = "us-east-1"

  /// What the flag says, else AWS_REGION, AWS_DEFAULT_REGION, the profile's `region`, `fallback`; empty ones
  /// count as absent.
  public static func name(
    explicit: String?, environment: [String: String], profile: SharedFiles.Profile?
  ) -> String {
    [explicit, environment["AWS_REGION"], environment["AWS_DEFAULT_REGION"], profile?["region"]]
      .lazy.compactMap { $0?.trimmedOfSpaces }.first { !$0.isEmpty } ?? fallback
  }

  /// Whether it can be part of a host's name. Everything else about a region is for the store to judge.
  static func isValid(_ name: String) -> Bool { S3Endpoint.isLabel(name) }

  /// The domain of the AWS partition that the region belongs to (`partitions.json` of the AWS SDKs).
  static func domain(of region: String) -> String {
    let domains = [
      ("cn-", "amazonaws.com.cn"), ("us-iso-", "c2s.ic.gov"), ("us-isob-", "sc2s.sgov.gov"),
      ("eu-isoe-", "cloud.adc-e.uk"), ("us-isof-", "csp.hci.ic.gov"), ("eusc-", "amazonaws.eu"),
    ]
    return domains.first { region.hasPrefix($0.0) }?.1 ?? "amazonaws.com"
  }
}
