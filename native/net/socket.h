// Listening sockets that several threads share through SO_REUSEPORT, and thread priority.
#pragma once

#include <cstdint>
#include <string>

namespace ostraka::net {

/// A bound socket, or errno and the call that failed.
struct Bound {
  int fd = -1;
  uint16_t port = 0;
  int error = 0;
  const char* call = "";
};

/// Makes a TCP socket bound to a numeric address with SO_REUSEADDR and SO_REUSEPORT, non-blocking, close-on-exec, not
/// yet listening: it takes no connection before its owner listens. Port 0 lets the system choose; `port` says which.
/// The fd belongs to the caller.
Bound BindReusePort(const std::string& host, uint16_t port);

/// Sets the nice value (0..19) of the calling thread alone, as Linux has it per thread. Returns 0 or errno.
int SetThreadNice(int nice);

}  // namespace ostraka::net
