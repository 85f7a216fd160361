// Lets a library that is linked on a new system load on old ones, back to glibc 2.27.
//
// The linker takes the newest version of every function that the C library here has, and the static libstdc++ asks for
// functions that older C libraries lack. What is defined here, hidden from everybody else, is found before the C library's
// and leads to versions that all of them have. Each function names the release that brought the version avoided.
// The declarations are our own: those of the system's headers differ between its releases.
#include <features.h>
#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))

#if defined(__x86_64__)
#define QWEN3_OLDEST "GLIBC_2.2.5"
#else
#define QWEN3_OLDEST "GLIBC_2.17"
#endif
// `old_NAME` is NAME in the version that the C library has had on this processor from the first.
#define QWEN3_OLD(result, name, parameters) \
  result old_##name parameters;             \
  __asm__(".symver old_" #name ", " #name "@" QWEN3_OLDEST)

extern "C" {

using Thread = unsigned long;

// 2.34: threads moved from libpthread into libc.
QWEN3_OLD(int, pthread_create, (Thread*, const void*, void* (*)(void*), void*));
QWEN3_OLD(int, pthread_detach, (Thread));
QWEN3_OLD(int, pthread_join, (Thread, void**));
QWEN3_OLD(int, pthread_once, (int*, void (*)()));
QWEN3_OLD(int, __pthread_key_create, (unsigned*, void (*)(void*)));

int pthread_create(Thread* thread, const void* attributes, void* (*run)(void*), void* argument) {
  return old_pthread_create(thread, attributes, run, argument);
}
int pthread_detach(Thread thread) { return old_pthread_detach(thread); }
int pthread_join(Thread thread, void** result) { return old_pthread_join(thread, result); }
int pthread_once(int* once, void (*run)()) { return old_pthread_once(once, run); }
int __pthread_key_create(unsigned* key, void (*destroy)(void*)) { return old___pthread_key_create(key, destroy); }

// 2.29: exp and log that do not set errno. The values are the same.
QWEN3_OLD(double, exp, (double));
QWEN3_OLD(double, log, (double));
double exp(double x) { return old_exp(x); }
double log(double x) { return old_log(x); }

// 2.32: libstdc++ asks whether it may count references without atomics. It may not.
char __libc_single_threaded = 0;

// 2.36: libstdc++'s random_device, which nothing here uses.
int getentropy(void* bytes, unsigned long count);
unsigned arc4random() {
  unsigned bits;
  if (getentropy(&bits, sizeof bits) != 0) __builtin_trap();
  return bits;
}

}  // extern "C"
#endif
