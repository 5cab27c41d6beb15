import Testing

@testable import HTTPTransfer

@Suite struct UsualSpeedTests {
  private func isStraggler(_ speed: inout UsualSpeed, _ byteCount: Int, attempt: Int = 1) -> Bool {
    speed.isStraggler(byteCount, in: .seconds(1), attempt: attempt)
  }

  @Test("A straggler brings less than a 32nd of what is usual, and less than 256 KiB/s")
  func usual() {
    var speed = UsualSpeed()
    #expect(!isStraggler(&speed, 1), "nothing is known")
    for _ in 0..<32 { speed.noteBody(3_200_000, in: .seconds(1)) }
    #expect(!isStraggler(&speed, 100_000))
    #expect(isStraggler(&speed, 99_999))
    for _ in 0..<32 { speed.noteBody(100_000_000, in: .seconds(1)) }
    #expect(!isStraggler(&speed, 256 << 10))
    #expect(isStraggler(&speed, (256 << 10) - 1))
  }

  @Test("Each attempt is allowed half the speed of the last")
  func attempts() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(3_200_000, in: .seconds(1)) }
    #expect(isStraggler(&speed, 50_001, attempt: 1) && !isStraggler(&speed, 50_001, attempt: 2))
    #expect(isStraggler(&speed, 0, attempt: .max))
  }

  @Test("Where all have become slow, no more is ended than it takes to know")
  func slowLine() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(100_000_000, in: .seconds(1)) }
    let ended = (0..<1000).filter { _ in isStraggler(&speed, 10_000) }.count
    #expect(ended == 17, "then more than half of the last 32 are slow")
  }

  @Test("Small bodies say nothing")
  func small() {
    var speed = UsualSpeed()
    for _ in 0..<32 { speed.noteBody(60_000, in: .milliseconds(1)) }
    #expect(!isStraggler(&speed, 1))
  }
}
