import Testing

@testable import HTTPTransfer

@Suite struct HTTPDateTests {
  @Test(
    "Dates are read, leap days included",
    arguments: [
      ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
      ("Tue, 29 Feb 2000 12:00:00 GMT", 951_825_600),
      ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
      ("Thu, 31 Dec 2099 23:59:59 GMT", 4_102_444_799),
    ] as [(String, Int64)])
  func valid(text: String, seconds: Int64) {
    #expect(HTTPDate(parsing: text)?.secondsSinceEpoch == seconds)
  }

  @Test(
    "Anything else is nil",
    arguments: [
      "", "120", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
      "Sun, 31 Feb 2024 00:00:00 GMT", "Sun, 29 Feb 2100 00:00:00 GMT",
      "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET",
      "Sun, 06 nov 1994 08:49:37 GMT", "Sun, +6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1969 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT ",
    ])
  func invalid(text: String) { #expect(HTTPDate(parsing: text) == nil) }
}
