import NIOConcurrencyHelpers

/// The account of all requests: the last 100,000 in full, and totals.
///
/// A record is opened when its request has arrived and completed as the answer proceeds, so a
/// request that hangs is in it too. Called from the event loops; a lock guards it (NIO's, here and
/// elsewhere, because ThreadSanitizer does not understand that of Synchronization).
final class RequestLedger: Sendable {
  private struct State {
    /// A ring: the record with number n is at n modulo the capacity.
    var records: [RequestRecord] = []
    var nextNumber = 1
    /// The first number since the last reset.
    var firstNumber = 1
    var totals = RequestTotals()
  }

  private let capacity: Int
  private let state = NIOLockedValueBox(State())

  init(capacity: Int = 100_000) {
    self.capacity = capacity
  }

  // MARK: Writing

  func open(_ makeRecord: (_ number: Int) -> RequestRecord) -> RequestRecord {
    state.withLockedValue { state in
      let record = makeRecord(state.nextNumber)
      let slot = state.nextNumber - state.firstNumber
      if slot < capacity {
        state.records.append(record)
      } else {
        state.records[slot % capacity] = record
        state.totals.recordsDropped += 1
      }
      state.nextNumber += 1
      state.totals.requests += 1
      state.totals.requestsByOperation[record.operation.rawValue, default: 0] += 1
      return record
    }
  }

  /// Returns the record as changed; nil if it is no longer kept.
  @discardableResult
  func update(_ number: Int, _ change: (inout RequestRecord) -> Void) -> RequestRecord? {
    state.withLockedValue { state in
      let slot = number - state.firstNumber
      guard slot >= 0, number > state.nextNumber - 1 - capacity else { return nil }
      let old = state.records[slot % capacity]
      change(&state.records[slot % capacity])
      let new = state.records[slot % capacity]
      state.totals.bodyBytesSent += new.bodyBytesSent - old.bodyBytesSent
      if old.status == 0 && new.status != 0 {
        state.totals.requestsByStatus[new.status, default: 0] += 1
      }
      if old.fault == nil, let fault = new.fault {
        state.totals.faultsByKind[fault, default: 0] += 1
      }
      return new
    }
  }

  /// Forgets all records and sums. Answers still under way are no longer counted.
  func reset() {
    state.withLockedValue { state in
      state.records.removeAll()
      state.firstNumber = state.nextNumber
      state.totals = RequestTotals()
    }
  }

  // MARK: Reading

  var totals: RequestTotals {
    state.withLockedValue { $0.totals }
  }

  /// The records in the order of their requests' arrival.
  var records: [RequestRecord] {
    state.withLockedValue { state in
      guard state.records.count == capacity else { return state.records }
      let oldest = (state.nextNumber - state.firstNumber) % capacity
      return Array(state.records[oldest...] + state.records[..<oldest])
    }
  }

  func records(key: String, bucket: String?) -> [RequestRecord] {
    records.filter { record in
      record.key.utf8.elementsEqual(key.utf8)
        && (bucket.map { record.bucket == $0 } ?? true)
    }
  }

  /// The sums by bucket and key, in the order of the first request. They leave out requests of
  /// whole buckets.
  var objectTotals: [ObjectTotals] {
    var order: [ObjectName] = []
    var byName: [ObjectName: [RequestRecord]] = [:]
    for record in records where !record.key.isEmpty {
      let name = ObjectName(bucket: record.bucket, key: Array(record.key.utf8))
      if byName[name] == nil { order.append(name) }
      byName[name, default: []].append(record)
    }
    return order.compactMap { name in
      guard let records = byName[name], let first = records.first else { return nil }
      return ObjectTotals(
        bucket: first.bucket, key: first.key, requests: records.count,
        bodyBytesSent: records.reduce(0) { $0 + $1.bodyBytesSent },
        bytesRequestedTwice: records.bytesRequestedTwice, bytesSentTwice: records.bytesSentTwice)
    }
  }

  private struct ObjectName: Hashable {
    let bucket: String
    let key: [UInt8]
  }
}

extension [RequestRecord] {
  /// The bytes that several of one object's records requested.
  var bytesRequestedTwice: Int {
    Self.bytesInSeveral(of: compactMap(\.objectBytesAsked))
  }

  /// The bytes that several of one object's records sent.
  var bytesSentTwice: Int {
    Self.bytesInSeveral(
      of: compactMap { record in
        record.objectBytesAnswered.map { $0.lowerBound..<$0.lowerBound + record.bodyBytesSent }
      })
  }

  /// How many numbers are in at least two of the ranges, each counted once.
  static func bytesInSeveral(of ranges: [Range<Int>]) -> Int {
    var edges: [(position: Int, step: Int)] = []
    for range in ranges where !range.isEmpty {
      edges.append((range.lowerBound, 1))
      edges.append((range.upperBound, -1))
    }
    edges.sort { $0.position < $1.position }
    var count = 0
    var depth = 0
    var previous = 0
    for edge in edges {
      if depth >= 2 { count += edge.position - previous }
      depth += edge.step
      previous = edge.position
    }
    return count
  }
}
