// Unix stream sockets with descriptors in the control data: one line each way.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "status.h"

namespace daxserve {

struct Peer {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};

/// The kernel takes at most this many descriptors in one message (SCM_MAX_FD).
inline constexpr size_t kFdsMax = 253;

/// One sendmsg of `length` bytes with `fds` attached to the first of them. `sent` is the count of bytes taken, or -1
/// when the socket would block (nothing was sent then). REQUIRES: length > 0, fds.size() <= kFdsMax.
Status SendFds(int socket, const char* data, size_t length, const std::vector<int>& fds, ssize_t& sent);

/// SO_PEERCRED: who connected. A pid in a namespace that we cannot see is 0.
Status PeerOf(int socket, Peer& peer);

/// Connects, waiting at most `timeout_ms` (a full backlog is retried). The descriptor is close-on-exec.
Status ConnectUnix(const std::string& path, uint32_t timeout_ms, int& socket);

/// Ends both directions; a call that waits on the socket in another thread returns. A socket whose peer is gone is fine.
Status ShutDown(int socket);

/// What came with a line. The caller owns the descriptors.
struct Line {
  std::string data;
  std::vector<int> fds;
};

/// Sends `line` (a newline is added when it lacks one) and receives up to and including the next newline, nothing
/// behind it. EMSGSIZE: more than `bytes_max` without a newline; ECONNRESET: the peer closed; ETIMEDOUT.
/// After a failure received descriptors are closed and the socket should be closed too.
Status ExchangeLine(int socket, std::string line, size_t bytes_max, uint32_t timeout_ms, Line& answer);

}  // namespace daxserve
