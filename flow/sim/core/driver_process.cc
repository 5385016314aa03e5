#include "driver_process.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

extern char** environ;

namespace vta {
namespace {

constexpr char kHost[] = "vta_driver_host";
constexpr int kSliceMs = 100;      // between two looks at `poll`
constexpr int kFarewellMs = 2000;  // for a device to be given back

// The program beside the library, or executable, that this code is in.
std::string HostPath() {
  Dl_info info;
  std::string path = kHost;
  if (dladdr(reinterpret_cast<const void*>(&HostPath), &info) != 0 && info.dli_fname != nullptr) {
    const std::string own = info.dli_fname;
    const size_t slash = own.rfind('/');
    path = (slash == std::string::npos ? "./" : own.substr(0, slash + 1)) + kHost;
  }
  return path;
}

std::string Ended(int status) {
  if (WIFSIGNALED(status)) {
    const char* name = strsignal(WTERMSIG(status));
    return "a crash, signal " + std::to_string(WTERMSIG(status)) + " (" +
           (name == nullptr ? "unknown" : name) + ")";
  }
  return "the end of its process with code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

DriverProcess::DriverProcess(const std::string& library, DriverOptions options)
    : library_(library), options_(std::move(options)) {
  try {
    Start();
    Call({DriverCommand::kOpen, 0, 0, library.size()},
         reinterpret_cast<const uint8_t*>(library.data()), "must load and open a device");
  } catch (...) {
    End(true);
    throw;
  }
}

DriverProcess::~DriverProcess() { End(broken_.has_value()); }

void DriverProcess::Start() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    Fail(ErrorKind::kDriver, library_, "must have a process of its own", strerror(errno));
  }
  socket_ = ends[0];
  fcntl(socket_, F_SETFL, O_NONBLOCK);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, ends[1], kDriverSocket);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  // Stdout has the user's tables; what a driver prints is for people.
  if (fcntl(2, F_GETFD) >= 0) {
    posix_spawn_file_actions_adddup2(&files, 2, 1);
  } else {
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
  }
  // A group of its own: Ctrl-C is for us, who end it.
  posix_spawnattr_t how;
  posix_spawnattr_init(&how);
  posix_spawnattr_setflags(&how,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&how, &none);
  posix_spawnattr_setsigdefault(&how, &all);
  posix_spawnattr_setpgroup(&how, 0);
  const std::string host = HostPath();
  std::string name = host;
  char* arguments[] = {name.data(), nullptr};
  const int failed = posix_spawn(&pid_, host.c_str(), &files, &how, arguments, environ);
  posix_spawnattr_destroy(&how);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  if (failed != 0) {
    pid_ = -1;
    Fail(ErrorKind::kArtifact, host, "must be a program that can be started", strerror(failed),
         "install the package, or build the core again");
  }
}

void DriverProcess::Place(const Program& program) {
  Call({DriverCommand::kProgram, 0, 0, program.file.size()},
       reinterpret_cast<const uint8_t*>(program.file.data()), "must take the program");
}

void DriverProcess::Write(uint64_t address, const uint8_t* bytes, size_t size) {
  if (size != 0) Call({DriverCommand::kWrite, 0, address, size}, bytes, "must take the input");
}

void DriverProcess::Read(uint64_t address, uint8_t* bytes, size_t size) {
  if (size == 0) return;
  const std::vector<uint8_t> read =
      Call({DriverCommand::kRead, 0, address, size}, nullptr, "must give the output");
  std::memcpy(bytes, read.data(), std::min(size, read.size()));
}

void DriverProcess::Run() { Call({DriverCommand::kRun, 0, 0, 0}, nullptr, "must run the program"); }

std::vector<uint8_t> DriverProcess::Call(const DriverRequest& request, const uint8_t* bytes,
                                         const char* must) {
  if (broken_) throw *broken_;
  must_ = must;
  deadline_.reset();
  if (options_.timeout_s > 0) {
    deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(options_.timeout_s));
  }
  DriverReply reply;
  std::vector<uint8_t> answer;
  try {
    const size_t sent = bytes == nullptr ? 0 : request.size;
    bool there =
        Send(&request, sizeof request) && Send(bytes, sent) && Receive(&reply, sizeof reply);
    if (there) {
      answer.resize(reply.size);
      there = Receive(answer.data(), answer.size());
    }
    if (!there) {
      const std::optional<int> status = End(false);
      Break(status ? Ended(*status) : "the end of its process",
            "see what it wrote before; nothing more is run on it");
    }
  } catch (...) {  // also what `poll` throws, in the middle of a call
    if (!broken_)
      broken_.emplace(ErrorKind::kDriver,
                      library_ + ": must not have been stopped; nothing more is run on it");
    throw;
  }
  if (reply.error == 0) return answer;
  broken_.emplace(static_cast<ErrorKind>(reply.error - 1),
                  std::string(answer.begin(), answer.end()));
  throw *broken_;
}

void DriverProcess::Break(const std::string& got, const std::string& hint) {
  broken_.emplace(ErrorKind::kDriver, library_ + ": " + must_ + ", got " + got + "; " + hint);
  End(true);
  throw *broken_;
}

void DriverProcess::Wait(short events) {
  for (;;) {
    int wait_ms = kSliceMs;
    if (deadline_) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(*deadline_ - Clock::now()).count();
      if (left <= 0) {
        std::string seconds = std::to_string(options_.timeout_s);
        seconds.erase(seconds.find_last_not_of('0') + 1);
        if (seconds.back() == '.') seconds.pop_back();
        Break("no answer in " + seconds + " s",
              "nothing more is run on it; give it more time, or find out why it hangs");
      }
      wait_ms = static_cast<int>(std::min<int64_t>(left, kSliceMs));
    }
    pollfd ready{socket_, events, 0};
    if (poll(&ready, 1, wait_ms) > 0) return;
    if (options_.poll) options_.poll();
  }
}

bool DriverProcess::Send(const void* bytes, size_t size) {
  const char* from = static_cast<const char*>(bytes);
  while (size != 0) {
    const ssize_t sent = send(socket_, from, size, MSG_NOSIGNAL);
    if (sent > 0) {
      from += sent;
      size -= static_cast<size_t>(sent);
    } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      Wait(POLLOUT);
    } else if (sent < 0 && errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool DriverProcess::Receive(void* bytes, size_t size) {
  char* to = static_cast<char*>(bytes);
  while (size != 0) {
    const ssize_t got = recv(socket_, to, size, 0);
    if (got > 0) {
      to += got;
      size -= static_cast<size_t>(got);
    } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      Wait(POLLIN);
    } else if (got == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

std::optional<int> DriverProcess::End(bool kill_it) {
  std::optional<int> status;
  if (pid_ > 0) {
    if (kill_it) {
      kill(pid_, SIGKILL);
    } else if (!broken_) {
      // Without waiting: a process that has hung is no reason to hang.
      const DriverRequest farewell;
      (void)!send(socket_, &farewell, sizeof farewell, MSG_NOSIGNAL | MSG_DONTWAIT);
      pollfd gone{socket_, POLLRDHUP, 0};
      if (poll(&gone, 1, kFarewellMs) <= 0) kill(pid_, SIGKILL);
    }
    int value = 0;
    pid_t ended;
    while ((ended = waitpid(pid_, &value, 0)) < 0 && errno == EINTR) {
    }
    if (ended == pid_) status = value;
    pid_ = -1;
  }
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
  return status;
}

}  // namespace vta
