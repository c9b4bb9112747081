#include "native/net/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ostraka::net {

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

bool Parse(const std::string& host, uint16_t port, Address* out) {
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out->storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out->length = sizeof(sockaddr_in);
    return true;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out->storage);
  if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out->length = sizeof(sockaddr_in6);
    return true;
  }
  return false;
}

Bound Fail(int fd, const char* call) {
  Bound result;
  result.error = errno;
  result.call = call;
  if (fd >= 0) close(fd);
  return result;
}

}  // namespace

Bound BindReusePort(const std::string& host, uint16_t port) {
  Address address;
  if (!Parse(host, port, &address)) {
    errno = EINVAL;
    return Fail(-1, "address");
  }
  const int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return Fail(fd, "socket");
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return Fail(fd, "setsockopt");
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return Fail(fd, "setsockopt");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0) return Fail(fd, "bind");
  Address bound;
  bound.length = sizeof bound.storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.length) != 0) return Fail(fd, "getsockname");
  Bound result;
  result.fd = fd;
  // The port stands at the same place in both families.
  result.port = ntohs(reinterpret_cast<const sockaddr_in*>(&bound.storage)->sin_port);
  return result;
}

int SetThreadNice(int nice) {
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  return setpriority(PRIO_PROCESS, thread, nice) == 0 ? 0 : errno;
}

}  // namespace ostraka::net
