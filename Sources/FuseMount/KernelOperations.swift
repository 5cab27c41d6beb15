import CFuse3
import Glibc
import InventoryFileSystem

// One function per kernel operation that this file system answers, called by libfuse on the
// session's threads. All others (write, create, unlink, chmod, …) never arrive: the kernel refuses
// them on a read-only mount with EROFS.

/// The table that libfuse calls by.
func makeOperations() -> fuse_lowlevel_ops {
  var operations = fuse_lowlevel_ops()
  operations.`init` = initialise
  operations.lookup = lookUp
  operations.getattr = getAttributes
  operations.open = open
  operations.read = read
  operations.release = release
  operations.opendir = openDirectory
  operations.readdir = readDirectoryNames
  operations.readdirplus = readDirectoryWithAttributes
  operations.statfs = getStatistics
  operations.getxattr = getExtendedAttribute
  operations.listxattr = listExtendedAttributes
  return operations
}

/// Handles the first request, in which the two sides agree on their features.
private func initialise(
  _ context: UnsafeMutableRawPointer?, _ connection: UnsafeMutablePointer<fuse_conn_info>?
) {
  guard let context, let connection else { return }
  let operations = OperationContext.from(userData: context)
  let maxRead = UInt32(OperationContext.maxReadInBytes)
  connection.pointee.max_read = maxRead
  // No data is written, but the kernel derives the largest request, reads included, from this
  // value.
  connection.pointee.max_write = maxRead
  connection.pointee.max_readahead = maxRead
  connection.pointee.max_background = operations.maxBackground
  connection.pointee.congestion_threshold = operations.maxBackground * 3 / 4
  // Sizes and times never change under a mount, so no pages have to be invalidated when they are
  // read again.
  connection.pointee.want &= ~UInt32(FUSE_CAP_AUTO_INVAL_DATA)
  connection.pointee.want |= connection.pointee.capable & UInt32(FUSE_CAP_PARALLEL_DIROPS)
}

/// Looks up a path component that the kernel does not remember.
private func lookUp(_ raw: fuse_req_t?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?) {
  guard let raw, let context = OperationContext.from(raw), let name else { return }
  let request = KernelRequest(raw: raw)
  // The file system has no names that are not UTF-8.
  guard let name = String(validatingCString: name) else { return request.replyNoEntry() }
  do throws(FileSystemError) {
    request.reply(
      entry: try context.fileSystem.lookUp(name, in: NodeID(inode: UInt64(parent))))
  } catch {
    if error == .notFound { request.replyNoEntry() } else { request.reply(error) }
  }
}

/// Handles `stat` of a node whose attributes the kernel does not remember.
private func getAttributes(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  let request = KernelRequest(raw: raw)
  do throws(FileSystemError) {
    request.reply(
      attributes: try context.fileSystem.attributes(of: NodeID(inode: UInt64(node))))
  } catch {
    request.reply(error)
  }
}

/// Handles every `open`; the kernel has checked permissions.
private func open(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let context = OperationContext.from(raw), let info else { return }
  let request = KernelRequest(raw: raw)
  guard info.pointee.flags & O_ACCMODE == O_RDONLY else { return request.reply(.readOnly) }
  var parked: ParkedOpenReply?
  do throws(FileSystemError) {
    let outcome = try context.fileSystem.open(NodeID(inode: UInt64(node))) {
      let reply = ParkedOpenReply(request, context, info.pointee)
      parked = reply
      return reply
    }
    switch outcome {
    case .opened(let file):
      context.reply(to: request, opened: file, info.pointee)
    case .parked(let interruption):
      parked?.waits(interruption)
    }
  } catch {
    request.reply(error)
  }
}

/// Handles the last `close` of a file, after all its reads.
private func release(
  _ raw: fuse_req_t?, _: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  if let file = OpenFile.from(info) {
    context.close(file)
    Unmanaged.passUnretained(file).release()
  }
  KernelRequest(raw: raw).reply(errno: 0)
}

/// Reads pages that are not in the kernel's page cache, for a reader or for the kernel's own
/// read-ahead.
private func read(
  _ raw: fuse_req_t?, _: fuse_ino_t, _ size: Int, _ offset: off_t,
  _ info: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  let request = KernelRequest(raw: raw)
  guard let file = OpenFile.from(info), let memory = pthread_getspecific(context.bufferKey) else {
    return request.reply(.inputOutput)
  }
  let count = min(size, OperationContext.maxReadInBytes)
  // The loop's buffer of this thread, which nothing else uses until the thread handles its next
  // request.
  let buffer = UnsafeMutableRawBufferPointer(start: memory, count: count)
  var parked: ParkedReadReply?
  do throws(FileSystemError) {
    let outcome = try context.fileSystem.read(file, byteOffset: Int(offset), into: buffer) {
      let reply = ParkedReadReply(
        request, context.pool, context.fileSystem, file, byteOffset: Int(offset), count: count)
      parked = reply
      return reply
    }
    switch outcome {
    case .copied(let count):
      request.reply(bytes: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    case .parked(let interruption):
      parked?.waits(interruption)
    }
  } catch {
    request.reply(error)
  }
}

/// ENOSYS tells the kernel once that directories need no opening and may be remembered.
private func openDirectory(
  _ raw: fuse_req_t?, _: fuse_ino_t, _: UnsafeMutablePointer<fuse_file_info>?
) {
  guard let raw else { return }
  KernelRequest(raw: raw).reply(errno: ENOSYS)
}

private func readDirectoryNames(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _ size: Int, _ offset: off_t,
  _: UnsafeMutablePointer<fuse_file_info>?
) {
  readDirectory(raw, node, size, offset, withAttributes: false)
}

private func readDirectoryWithAttributes(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _ size: Int, _ offset: off_t,
  _: UnsafeMutablePointer<fuse_file_info>?
) {
  readDirectory(raw, node, size, offset, withAttributes: true)
}

/// Lists a part of a directory, from `offset` on: 0 is `.`, 1 is `..`, 2 and on are the items.
private func readDirectory(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _ size: Int, _ offset: off_t, withAttributes: Bool
) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  let request = KernelRequest(raw: raw)
  let directory = NodeID(inode: UInt64(node))
  do throws(FileSystemError) {
    let count = try context.fileSystem.itemCount(of: directory) + 2
    var listing = DirectoryListing(request, sizeInBytes: size, withAttributes: withAttributes)
    var index = max(0, Int(offset))
    while index < count {
      let item: DirectoryItem =
        switch index {
        case 0:
          DirectoryItem(name: ".", attributes: try context.fileSystem.attributes(of: directory))
        case 1:
          DirectoryItem(
            name: "..",
            attributes: try context.fileSystem.attributes(
              of: context.fileSystem.parent(of: directory)))
        default: try context.fileSystem.item(at: index - 2, of: directory)
        }
      guard listing.append(item, nextOffset: index + 1) else { break }
      index += 1
    }
    listing.reply()
  } catch {
    request.reply(error)
  }
}

/// Handles `df` and `statvfs`.
///
/// The file system has no blocks and no inodes, as those of the kernel itself (proc, sysfs). With
/// the chunks' sizes as its blocks, all of them in use because nothing can be written, it would be
/// 100 % full, and what watches disks would report that; free space would be an invention. So `df`
/// leaves the mount out unless it is named or all file systems are asked for, and shows no
/// percentage.
private func getStatistics(_ raw: fuse_req_t?, _: fuse_ino_t) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  var statistics = statvfs()
  statistics.f_bsize = 4096
  statistics.f_frsize = 4096
  statistics.f_namemax = UInt(context.fileSystem.longestNameInBytes)
  fuse_reply_statfs(raw, &statistics)
}

private func getExtendedAttribute(
  _ raw: fuse_req_t?, _ node: fuse_ino_t, _ name: UnsafePointer<CChar>?, _ size: Int
) {
  guard let raw, let context = OperationContext.from(raw), let name else { return }
  let request = KernelRequest(raw: raw)
  var parked: ParkedAttributeReply?
  do throws(FileSystemError) {
    let outcome = try context.fileSystem.attribute(
      String(cString: name), of: NodeID(inode: UInt64(node))
    ) {
      let reply = ParkedAttributeReply(request, context.pool, limit: size)
      parked = reply
      return reply
    }
    switch outcome {
    case .known(let value): request.reply(attribute: value, limit: size)
    case .parked(let interruption): parked?.waits(interruption)
    }
  } catch {
    request.reply(error)
  }
}

private func listExtendedAttributes(_ raw: fuse_req_t?, _ node: fuse_ino_t, _ size: Int) {
  guard let raw, let context = OperationContext.from(raw) else { return }
  let names = context.fileSystem.attributeNames(of: NodeID(inode: UInt64(node)))
  KernelRequest(raw: raw).reply(attribute: names.flatMap { Array($0.utf8) + [0] }, limit: size)
}
