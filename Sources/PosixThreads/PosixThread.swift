#if canImport(Glibc)
public import Glibc
#elseif canImport(Musl)
public import Musl
#endif
