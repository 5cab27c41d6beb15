import ReadPlanning
import Testing

@testable import InventoryFileSystem

@Suite struct FailureReportsTests {
  private let key = FailureReports.Key(chunk: ChunkID(index: 1), cause: "403 AccessDenied")

  @Test("What fails within a moment is one failure; another chunk or cause is another")
  func burst() {
    var reports = FailureReports()
    #expect(reports.note(key, "a", at: .seconds(10)) == .new)
    #expect(reports.note(key, "b", at: .seconds(14)) == .same)
    let chunk = FailureReports.Key(chunk: ChunkID(index: 2), cause: key.cause)
    #expect(reports.note(chunk, "c", at: .seconds(14)) == .new)
    let cause = FailureReports.Key(chunk: key.chunk, cause: "timeout")
    #expect(reports.note(cause, "d", at: .seconds(14)) == .new)
    #expect(reports.takeSummary(of: key, at: .seconds(70)) == nil)
    #expect(reports.note(key, "e", at: .seconds(71)) == .new)
  }

  @Test("Later failures are summed up once a minute, with the last of them")
  func summary() {
    var reports = FailureReports()
    #expect(reports.note(key, "a", at: .zero) == .new)
    #expect(
      reports.note(key, "b", at: .seconds(20)) == .counted(summaryAfter: .seconds(40)))
    for second in 21...50 {
      #expect(reports.note(key, "c", at: .seconds(second)) == .counted(summaryAfter: nil))
    }
    let summary = reports.takeSummary(of: key, at: .seconds(60))
    #expect(summary == "c (31 such failures of this chunk within 60 s)")
    #expect(reports.note(key, "d", at: .seconds(62)) == .same)
    #expect(
      reports.note(key, "e", at: .seconds(70)) == .counted(summaryAfter: .seconds(50)))
    #expect(reports.takeSummary(of: key, at: .seconds(120)) == "e")
    #expect(reports.takeSummary(of: key, at: .seconds(180)) == nil)
  }
}
