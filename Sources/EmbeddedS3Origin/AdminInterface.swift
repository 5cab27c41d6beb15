import FoundationEssentials
import NIOHTTP1

/// The server's own resources, for tests in other languages. No bucket can be named `-`.
///
///     GET  /-/stats              totals, connections, and sums by object, as JSON
///     GET  /-/stats?records=1    the same with the record of each request
///     POST /-/reset              starts the account over
///     GET  /-/faults             the fault plan
///     PUT  /-/faults             replaces it, from its first request
struct AdminInterface {
  static let prefix = "/-/"

  private struct Statistics: Codable {
    let totals: RequestTotals
    let connections: ConnectionTotals
    let objects: [ObjectTotals]
    let records: [RequestRecord]?
  }

  let service: OriginService

  func answer(_ head: HTTPRequestHead, body: String) -> Answer {
    let parts = head.uri.split(separator: "?", maxSplits: 1)
    switch (head.method, parts.first ?? "") {
    case (.GET, "/-/stats"):
      let wantsRecords = parts.last?.contains("records=1") ?? false
      return json(
        Statistics(
          totals: service.ledger.totals, connections: service.connections.totals,
          objects: service.ledger.objectTotals,
          records: wantsRecords ? service.ledger.records : nil))
    case (.POST, "/-/reset"):
      service.ledger.reset()
      service.connections.reset()
      return Answer(status: 204)
    case (.GET, "/-/faults"):
      return json(service.faultPlan)
    case (.PUT, "/-/faults"):
      do {
        service.faultPlan = try FaultPlan(json: Data(body.utf8))
        return Answer(status: 204)
      } catch {
        return Answer(status: 400, text: "not a fault plan: \(error)\n", type: "text/plain")
      }
    default:
      return Answer(
        status: 404, text: "GET /-/stats, POST /-/reset, GET or PUT /-/faults\n",
        type: "text/plain")
    }
  }

  private func json(_ value: some Encodable) -> Answer {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    guard let data = try? encoder.encode(value) else {
      return Answer(status: 500, text: "", type: "text/plain")
    }
    return Answer(text: String(decoding: data, as: UTF8.self), type: "application/json")
  }
}
