// SPDX-License-Identifier: MIT
#include "journal/guard.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace journal {
namespace {

constexpr std::size_t kFileBytes = 4096;
constexpr std::array<int, 6> kFatal = {SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGFPE, SIGILL};

// A signal handler can be told nothing else than through these.
volatile std::uint32_t* counted = nullptr;
std::array<struct sigaction, kFatal.size()> former_actions;
// A reader that used up its stack is to be counted too.
std::array<char, 16384> handler_stack;
stack_t former_stack;

void count_and_die(int signal_number) {
  *counted = *counted + 1;
  // SA_RESETHAND has put the default action back.
  ::raise(signal_number);
}

}  // namespace

store::Result<LoadingCount, std::string> LoadingCount::open(const std::filesystem::path& file) {
  const Fd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat status {};
  bool usable = fd && ::fstat(fd.get(), &status) == 0;
  if (usable && status.st_size != off_t{kFileBytes}) {
    const std::array<char, kFileBytes> zeros{};
    usable = ::ftruncate(fd.get(), 0) == 0 &&
             ::pwrite(fd.get(), zeros.data(), zeros.size(), 0) == ssize_t{kFileBytes};
  }
  Mapping mapping = usable ? map_shared(fd.get(), kFileBytes) : Mapping();
  if (mapping.begin() == nullptr) {
    return tl::unexpected(system_message("cannot use " + file.string(), errno));
  }
  return LoadingCount(std::move(mapping));
}

LoadingGuard::LoadingGuard(const LoadingCount& count, unsigned seconds) {
  counted = count.count();
  stack_t stack{};
  stack.ss_sp = handler_stack.data();
  stack.ss_size = handler_stack.size();
  ::sigaltstack(&stack, &former_stack);
  struct sigaction action {};
  action.sa_handler = count_and_die;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_ONSTACK);
  for (std::size_t i = 0; i < kFatal.size(); ++i) {
    ::sigaction(kFatal[i], &action, &former_actions[i]);
  }
  ::alarm(seconds);
  // Short memory is no fault of the state's: whoever started us may try again.
  std::set_new_handler([] { std::_Exit(EXIT_FAILURE); });
}

LoadingGuard::~LoadingGuard() {
  std::set_new_handler(nullptr);
  ::alarm(0);
  for (std::size_t i = 0; i < kFatal.size(); ++i) {
    ::sigaction(kFatal[i], &former_actions[i], nullptr);
  }
  ::sigaltstack(&former_stack, nullptr);
}

}  // namespace journal
