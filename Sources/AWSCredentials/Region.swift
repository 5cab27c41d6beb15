import PrintableText

/// The region that requests are signed for.
public enum Region {
  /// The default region, which most stores other than AWS accept or expect too.
  public static let fallback = "us-east-1"

  /// The flag's value, else AWS_REGION, AWS_DEFAULT_REGION, the profile's `region`, or `fallback`;
  /// empty values count as absent.
  public static func name(
    explicit: String?, environment: [String: String], profile: SharedFiles.Profile?
  ) -> String {
    [explicit, environment["AWS_REGION"], environment["AWS_DEFAULT_REGION"], profile?["region"]]
      .lazy.compactMap { $0?.trimmedOfSpaces }.first { !$0.isEmpty } ?? fallback
  }

  /// Whether the region can be part of a host name. The store checks everything else about a
  /// region.
  package static func isValid(_ name: String) -> Bool { name.isHostLabel }

  /// The domain of the AWS partition that the region belongs to (`partitions.json` of the AWS
  /// SDKs).
  package static func domain(of region: String) -> String {
    let domains = [
      ("cn-", "amazonaws.com.cn"), ("us-iso-", "c2s.ic.gov"), ("us-isob-", "sc2s.sgov.gov"),
      ("eu-isoe-", "cloud.adc-e.uk"), ("us-isof-", "csp.hci.ic.gov"), ("eusc-", "amazonaws.eu"),
    ]
    return domains.first { region.hasPrefix($0.0) }?.1 ?? "amazonaws.com"
  }
}

extension String {
  /// Whether the text is at most 63 lower-case letters, digits and inner hyphens: one part of a
  /// host name.
  package var isHostLabel: Bool {
    let hyphen = UInt8(ascii: "-")
    return (1...63).contains(utf8.count) && utf8.first != hyphen && utf8.last != hyphen
      && utf8.allSatisfy {
        $0.isDigit || $0 == hyphen || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
      }
  }
}
