import Blocks
import ReadPlanning

/// The kernel's page cache for one open file, as far as the requests go that it sends to the file
/// system: whole pages, none twice; just the pages wanted after a jump; once a read continues, a
/// window that grows to 1 MiB, whose marked page asks for the next one when it is read
/// (mm/readahead.c).
struct KernelPages {
  static let pageSizeInBytes = 4096
  private static let largestWindow = 256

  private let fileSizeInBytes: Int
  private var present: BlockSet
  private var previousPage = -2
  private var window = 0..<0
  private var markedPage = -1

  init(fileSizeInBytes: Int) {
    self.fileSizeInBytes = fileSizeInBytes
    present = BlockSet(
      blockCount: (fileSizeInBytes + Self.pageSizeInBytes - 1) / Self.pageSizeInBytes)
  }

  /// What the file system is asked for when a process reads `bytes`.
  mutating func requests(for bytes: Range<Int>) -> [Range<Int>] {
    let first = bytes.lowerBound / Self.pageSizeInBytes
    let pages = first..<(bytes.upperBound - 1) / Self.pageSizeInBytes + 1
    var asked: [Range<Int>] = []
    for page in pages {
      if page == markedPage {
        moveWindow()
        asked += ask(for: window)
      } else if !present.contains(page) {
        let wanted = page..<pages.upperBound
        if page == window.upperBound, !window.isEmpty {
          moveWindow()
        } else if page - previousPage <= 1 {
          let power = 1 << (Int.bitWidth - (wanted.count - 1).leadingZeroBitCount)
          let size = power <= Self.largestWindow / 32 ? power * 4 : power * 2
          window = page..<page + min(Self.largestWindow, size)
          markedPage = min(wanted.upperBound, window.upperBound)
        } else {
          window = 0..<0
          asked += ask(for: wanted)
          previousPage = page
          continue
        }
        asked += ask(for: window)
      }
      previousPage = page
    }
    return asked
  }

  private mutating func moveWindow() {
    let size = window.count < Self.largestWindow / 16 ? window.count * 4 : window.count * 2
    window = window.upperBound..<window.upperBound + min(Self.largestWindow, size)
    markedPage = window.lowerBound
  }

  private mutating func ask(for pages: Range<Int>) -> [Range<Int>] {
    let pages = pages.clamped(to: 0..<present.blockCount)
    var asked: [Range<Int>] = []
    var next = pages.lowerBound
    while let start = present.firstAbsent(in: next..<pages.upperBound) {
      let end = present.firstPresent(in: start..<pages.upperBound) ?? pages.upperBound
      asked.append(
        start * Self.pageSizeInBytes..<min(fileSizeInBytes, end * Self.pageSizeInBytes))
      next = end
    }
    present.insert(pages)
    return asked
  }
}
