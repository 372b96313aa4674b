#include "socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <cstring>
#include <thread>

namespace daxserve {
namespace {

using Clock = std::chrono::steady_clock;
using ControlBuffer = std::array<char, CMSG_SPACE(sizeof(int) * kFdsMax)>;

int LeftMs(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

Status AwaitReady(int socket, short events, Clock::time_point deadline) {
  for (;;) {
    struct pollfd entry {socket, events, 0};
    const int ready = poll(&entry, 1, LeftMs(deadline));
    if (ready > 0) return Status::Ok();
    if (ready == 0) return Status::Errno(ETIMEDOUT, "poll");
    if (errno != EINTR) return Status::Last("poll");
  }
}

bool WouldBlock() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// A peer that has closed may have said why before: then EPIPE is no failure, what there is to receive tells.
Status SendAll(int socket, const std::string& bytes, Clock::time_point deadline) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
      continue;
    }
    if (errno == EPIPE) break;
    if (!WouldBlock()) return Status::Last("send");
    const Status status = AwaitReady(socket, POLLOUT, deadline);
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

void TakeFds(struct msghdr& message, std::vector<int>& fds) {
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t old = fds.size();
    fds.resize(old + count);
    std::memcpy(fds.data() + old, CMSG_DATA(c), count * sizeof(int));
  }
}

// Looks at what has come without taking it, so that nothing behind the newline is ever taken.
ssize_t PeekUpToNewline(int socket, std::string& scratch) {
  const ssize_t n = recv(socket, scratch.data(), scratch.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n <= 0) return n;
  const void* newline = std::memchr(scratch.data(), '\n', static_cast<size_t>(n));
  return newline == nullptr ? n : static_cast<const char*>(newline) - scratch.data() + 1;
}

Status ReceivePart(int socket, size_t length, Line& answer) {
  std::string part(length, '\0');
  alignas(struct cmsghdr) ControlBuffer control;
  struct iovec vector {part.data(), part.size()};
  struct msghdr message {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return WouldBlock() ? Status::Ok() : Status::Last("recvmsg");
  TakeFds(message, answer.fds);
  // The kernel drops descriptors that the process has no room for.
  if (message.msg_flags & MSG_CTRUNC) return Status::Errno(EMFILE, "recvmsg");
  answer.data.append(part.data(), static_cast<size_t>(n));
  return Status::Ok();
}

Status ReceiveLine(int socket, size_t bytes_max, Clock::time_point deadline, Line& answer) {
  std::string scratch(std::min<size_t>(bytes_max, 64 << 10), '\0');
  while (answer.data.empty() || answer.data.back() != '\n') {
    if (answer.data.size() >= bytes_max) return Status::Errno(EMSGSIZE, "recvmsg");
    Status status = AwaitReady(socket, POLLIN, deadline);
    if (!status.ok()) return status;
    const ssize_t available = PeekUpToNewline(socket, scratch);
    if (available == 0) return Status::Errno(ECONNRESET, "recvmsg");
    if (available < 0 && WouldBlock()) continue;
    if (available < 0) return Status::Last("recvmsg");
    status = ReceivePart(socket, std::min<size_t>(available, bytes_max - answer.data.size()), answer);
    if (!status.ok()) return status;
  }
  return Status::Ok();
}

// Connects once; EAGAIN of a unix socket means a full backlog, which only time resolves.
Status ConnectOnce(int socket, const sockaddr_un& address, Clock::time_point deadline) {
  for (;;) {
    if (connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return Status::Ok();
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return Status::Last("connect");
    if (Clock::now() >= deadline) return Status::Errno(ETIMEDOUT, "connect");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace

Status SendFds(int socket, const char* data, size_t length, const std::vector<int>& fds, ssize_t& sent) {
  assert(length > 0 && fds.size() <= kFdsMax);
  alignas(struct cmsghdr) ControlBuffer control{};
  struct iovec vector {const_cast<char*>(data), length};
  struct msghdr message {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0 || WouldBlock()) return Status::Ok();
  return Status::Last("sendmsg");
}

Status PeerOf(int socket, Peer& peer) {
  struct ucred credentials {};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return Status::Last("getsockopt");
  peer = {credentials.pid, credentials.uid, credentials.gid};
  return Status::Ok();
}

Status ConnectUnix(const std::string& path, uint32_t timeout_ms, int& out) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return Status::Errno(ENAMETOOLONG, "connect");
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Status::Last("socket");
  const Status status = ConnectOnce(fd, address, Clock::now() + std::chrono::milliseconds(timeout_ms));
  if (status.ok()) out = fd;
  else close(fd);
  return status;
}

Status ShutDown(int socket) {
  if (shutdown(socket, SHUT_RDWR) == 0 || errno == ENOTCONN) return Status::Ok();
  return Status::Last("shutdown");
}

Status ExchangeLine(int socket, std::string line, size_t bytes_max, uint32_t timeout_ms, Line& answer) {
  assert(bytes_max > 0);
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  if (line.empty() || line.back() != '\n') line.push_back('\n');
  Status status = SendAll(socket, line, deadline);
  if (status.ok()) status = ReceiveLine(socket, bytes_max, deadline, answer);
  if (status.ok()) return status;
  for (const int fd : answer.fds) close(fd);
  answer.fds.clear();
  return status;
}

}  // namespace daxserve
