// Lets one binary run on every glibc since 2.28, wherever it was built.
//
// A linker binds each call to the newest version of a symbol that the building machine's glibc has, and the program
// then asks for that glibc. The calls below have done the same thing for far longer under an older version, or can be
// made without glibc. The linker sends them here (--wrap, flags_link in native/sources.json), those of the static
// libstdc++ included; scripts/prebuild.mjs checks the result. Only for glibc on x86-64 and arm64; musl has no versions.
#include <features.h>

#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FIRST_GLIBC "GLIBC_2.2.5"
#define FIRST_SETNAME "GLIBC_2.12"
#else
#define FIRST_GLIBC "GLIBC_2.17"
#define FIRST_SETNAME "GLIBC_2.17"
#endif
#define OLD_VERSION(name, version) __asm__(".symver old_" #name "," #name "@" version)

OLD_VERSION(pthread_create, FIRST_GLIBC);
OLD_VERSION(pthread_once, FIRST_GLIBC);
OLD_VERSION(pthread_attr_setstacksize, FIRST_GLIBC);
OLD_VERSION(pthread_key_create, FIRST_GLIBC);
OLD_VERSION(pthread_key_delete, FIRST_GLIBC);
OLD_VERSION(pthread_getspecific, FIRST_GLIBC);
OLD_VERSION(pthread_setspecific, FIRST_GLIBC);
OLD_VERSION(pthread_sigmask, FIRST_GLIBC);
OLD_VERSION(pthread_setname_np, FIRST_SETNAME);

extern "C" {

int old_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int old_pthread_once(pthread_once_t*, void (*)());
int old_pthread_attr_setstacksize(pthread_attr_t*, size_t);
int old_pthread_key_create(pthread_key_t*, void (*)(void*));
int old_pthread_key_delete(pthread_key_t);
void* old_pthread_getspecific(pthread_key_t);
int old_pthread_setspecific(pthread_key_t, const void*);
int old_pthread_sigmask(int, const sigset_t*, sigset_t*);
int old_pthread_setname_np(pthread_t, const char*);

int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  return old_pthread_create(thread, attributes, start, argument);
}

int __wrap_pthread_once(pthread_once_t* control, void (*routine)()) { return old_pthread_once(control, routine); }

int __wrap_pthread_attr_setstacksize(pthread_attr_t* attributes, size_t size) {
  return old_pthread_attr_setstacksize(attributes, size);
}

int __wrap_pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) {
  return old_pthread_key_create(key, destructor);
}

int __wrap___pthread_key_create(pthread_key_t* key, void (*destructor)(void*)) {
  return old_pthread_key_create(key, destructor);
}

int __wrap_pthread_key_delete(pthread_key_t key) { return old_pthread_key_delete(key); }

void* __wrap_pthread_getspecific(pthread_key_t key) { return old_pthread_getspecific(key); }

int __wrap_pthread_setspecific(pthread_key_t key, const void* value) { return old_pthread_setspecific(key, value); }

int __wrap_pthread_sigmask(int how, const sigset_t* set, sigset_t* old) { return old_pthread_sigmask(how, set, old); }

int __wrap_pthread_setname_np(pthread_t thread, const char* name) { return old_pthread_setname_np(thread, name); }

// On both processors glibc's struct stat is the kernel's.
int __wrap_fstatat64(int folder, const char* path, struct stat64* result, int flags) {
  return static_cast<int>(syscall(SYS_newfstatat, folder, path, result, flags));
}

int __wrap_fstat64(int fd, struct stat64* result) { return static_cast<int>(syscall(SYS_fstat, fd, result)); }

// arm64 has the same two under the shorter names.
int __wrap_fstatat(int folder, const char* path, struct stat64* result, int flags) {
  return __wrap_fstatat64(folder, path, result, flags);
}

int __wrap_fstat(int fd, struct stat64* result) { return __wrap_fstat64(fd, result); }

// libstdc++ leaves out atomic operations while this is true; never true is always right.
char __wrap___libc_single_threaded = 0;

// Only std::random_device would ask for it.
uint32_t __wrap_arc4random() {
  uint32_t word;
  if (getentropy(&word, sizeof word) != 0) __builtin_trap();
  return word;
}

}  // extern "C"

#endif
