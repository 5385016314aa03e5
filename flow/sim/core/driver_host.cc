// The process of a driver library: loads it and does what flow's process asks for, until that ends.
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "driver.h"
#include "driver_protocol.h"
#include "error.h"
#include "program.h"

namespace vta {
namespace {

void Receive(void* bytes, size_t size) {
  char* to = static_cast<char*>(bytes);
  while (size != 0) {
    const ssize_t got = recv(kDriverSocket, to, size, 0);
    if (got == 0 || (got < 0 && errno != EINTR)) _exit(EXIT_SUCCESS);  // nobody is there
    if (got > 0) {
      to += got;
      size -= static_cast<size_t>(got);
    }
  }
}

void Send(const void* bytes, size_t size) {
  const char* from = static_cast<const char*>(bytes);
  while (size != 0) {
    const ssize_t sent = send(kDriverSocket, from, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) _exit(EXIT_SUCCESS);
    if (sent > 0) {
      from += sent;
      size -= static_cast<size_t>(sent);
    }
  }
}

// A library that hangs must not outlive the process that waits for it.
void EndWithTheOther() {
  for (;;) {
    pollfd other{kDriverSocket, POLLRDHUP, 0};
    if (poll(&other, 1, -1) > 0) kill(getpid(), SIGKILL);
  }
}

class Host {
 public:
  // Does what is asked for and returns the bytes of the reply.
  std::string Answer(const DriverRequest& request) {
    std::string bytes;
    if (request.command != DriverCommand::kRead) {
      bytes.resize(request.size);
      Receive(bytes.data(), bytes.size());
    }
    switch (request.command) {
      case DriverCommand::kOpen:
        library_ = bytes;
        driver_ = std::make_unique<Driver>(library_);
        break;
      case DriverCommand::kProgram:
        ParseProgram(std::move(bytes), &program_);
        driver_->Place(program_);
        break;
      case DriverCommand::kWrite:
        driver_->Write(request.address, reinterpret_cast<const uint8_t*>(bytes.data()),
                       bytes.size());
        break;
      case DriverCommand::kRead:
        bytes.resize(request.size);
        driver_->Read(request.address, reinterpret_cast<uint8_t*>(bytes.data()), bytes.size());
        return bytes;
      case DriverCommand::kRun:
        driver_->Run();
        break;
      case DriverCommand::kClose:
        driver_.reset();
        _exit(EXIT_SUCCESS);
    }
    return "";
  }

  const std::string& library() const { return library_; }

 private:
  std::string library_;
  Program program_;
  std::unique_ptr<Driver> driver_;
};

[[noreturn]] void Serve() {
  Host host;
  for (;;) {
    DriverRequest request;
    Receive(&request, sizeof request);
    DriverReply reply;
    std::string bytes;
    const auto fail = [&](ErrorKind kind, const std::string& sentence) {
      reply.error = 1 + static_cast<uint32_t>(kind);
      bytes = sentence;
    };
    const auto thrown = [&](const std::string& what) {
      fail(ErrorKind::kDriver, host.library() + ": must not throw, got an exception" + what +
                                   "; nothing more is run on it");
    };
    try {
      bytes = host.Answer(request);
    } catch (const Error& error) {
      fail(error.kind(), error.what());
    } catch (const std::exception& error) {
      thrown(std::string(": ") + error.what());
    } catch (...) {
      thrown(" of no known kind");
    }
    reply.size = bytes.size();
    Send(&reply, sizeof reply);
    Send(bytes.data(), bytes.size());
  }
}

}  // namespace
}  // namespace vta

int main() {
  std::thread(vta::EndWithTheOther).detach();
  vta::Serve();
}
