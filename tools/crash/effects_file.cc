// SPDX-License-Identifier: MIT
#include "tools/crash/effects_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace crash {

Effects::Effects(std::string path) : path_(std::move(path)) {
  const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ::ftruncate(fd, sizeof(EffectsControl)) != 0) return;
  void* const mapped =
      ::mmap(nullptr, sizeof(EffectsControl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) control_ = static_cast<EffectsControl*>(mapped);
  ::close(fd);
}

Effects::~Effects() {
  if (control_ != nullptr) ::munmap(control_, sizeof(EffectsControl));
}

void Effects::arm(std::uint64_t kill_at, bool before) {
  control_->count = 0;
  control_->kill_at = kill_at;
  control_->before = before ? 1 : 0;
  control_->is_armed = 1;
}

std::vector<std::string> Effects::environment(const std::string& libraries) const {
  return {"LD_PRELOAD=" + libraries, std::string(kEffectsVariable) + "=" + path_};
}

}  // namespace crash
