import Testing

@testable import HTTPTransfer

@Suite struct FirstBytePatienceTests {
  @Test(
    "While little is known, as long as may be; then eight times what is usual, at least a second")
  func usual() {
    var patience = FirstBytePatience(longest: .seconds(15))
    #expect(patience.timeout(attempt: 1) == .seconds(15))
    for _ in 0..<100 { patience.note(.milliseconds(30)) }
    #expect(patience.timeout(attempt: 1) == .seconds(1))
    for _ in 0..<32 { patience.note(.milliseconds(300)) }
    #expect(patience.timeout(attempt: 1) == .milliseconds(2400))
  }

  @Test("Each attempt is given twice the time, up to the longest")
  func patienceGrows() {
    var patience = FirstBytePatience(longest: .seconds(15))
    for _ in 0..<8 { patience.note(.milliseconds(30)) }
    let timeouts = (1...6).map { patience.timeout(attempt: $0) }
    #expect(timeouts == [1, 2, 4, 8, 15, 15].map { .seconds($0) })
    #expect(patience.timeout(attempt: .max) == .seconds(15))
  }

  @Test("A few stragglers do not change what is usual")
  func stragglers() {
    var patience = FirstBytePatience(longest: .seconds(15))
    for round in 0..<32 { patience.note(round % 4 == 0 ? .seconds(9) : .milliseconds(30)) }
    #expect(patience.timeout(attempt: 1) == .seconds(1))
  }
}
