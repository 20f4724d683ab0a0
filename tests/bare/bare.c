// A network on a Cortex-M without an operating system: vector table, reset handler, one inference on inputs made from a
// seed, its outputs written to a file of the host through semihosting.
//
//   arm-none-eabi-gcc -mcpu=cortex-m4 -ffreestanding -nostdlib -T bare.ld bare.c net.o -lgcc -o net.elf
//   qemu-system-arm -M mps2-an386 -nographic -semihosting -kernel net.elf        writes net.bin
//
// The stack is painted before run and looked at after it: the line "stack N" is what run took, which net.h bounds. Exit
// code 0, 1 when the network refused to run, 3 after a fault.
#include "net.h"
#include "tests/cross/inputs.h"

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_EXIT_EXTENDED = 0x20 };
enum { ADP_STOPPED = 0x20026, SEED = 7, PAINT = 0xa5, PAINTED = 6144 };

extern unsigned char bare_heap[], bare_stack[], bare_data[], bare_data_end[], bare_data_load[], bare_bss[],
    bare_bss_end[];
void bare_reset(void);
int bare_main(void);

static intptr_t host_call(intptr_t op, const void *arg) {
  register intptr_t r0 __asm__("r0") = op;
  register const void *r1 __asm__("r1") = arg;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static void stop(int code) {
  intptr_t arg[2] = {ADP_STOPPED, code};
  for (;;) host_call(SYS_EXIT_EXTENDED, arg);
}

static void fault(void) { stop(3); }

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {(void (*)(void))bare_stack,
                                                                                     bare_reset,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault,
                                                                                     fault};

// ---- all the library that objects of qcc may ask for

void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  unsigned char *d = to;
  const unsigned char *s = from;
  while (n--) *d++ = *s++;
  return to;
}

void *memset(void *to, int value, size_t n) {
  unsigned char *d = to;
  while (n--) *d++ = (unsigned char)value;
  return to;
}

void *memmove(void *to, const void *from, size_t n) {
  unsigned char *d = to;
  const unsigned char *s = from;
  if (d < s) return memcpy(to, from, n);
  while (n--) d[n] = s[n];
  return to;
}

// ---- the run

static unsigned char *heap = bare_heap;

static void *block(uint64_t bytes) {
  unsigned char *p = heap;
  heap += (bytes + 63) / 64 * 64;
  return p;
}

static void print_number(const char *name, uint32_t v) {
  char text[12] = "         \n";
  for (int i = 8; v || i == 8; v /= 10) text[i--] = (char)('0' + v % 10);
  host_call(SYS_WRITE0, name);
  host_call(SYS_WRITE0, text);
}

// Bytes below `top` that are no longer painted.
static uint32_t stack_used(const unsigned char *top) {
  const unsigned char *p = top - PAINTED;
  while (p < top && *p == PAINT) p++;
  return (uint32_t)(top - p);
}

static int run(void *workspace, const void **in, void **out) {
  qcc_call call = {.workspace = workspace, .inputs = in, .outputs = out};
  unsigned char *top;
  __asm__ volatile("mov %0, sp" : "=r"(top));
  for (volatile unsigned char *p = top - PAINTED; p < top; p++) *p = PAINT;
  int status = net_model.run(&call);
  print_number("stack", stack_used(top));
  return status;
}

static void write_outputs(void **out) {
  intptr_t name[3] = {(intptr_t)"net.bin", 5, 7};  // "wb"
  intptr_t file = host_call(SYS_OPEN, name);
  for (uint32_t i = 0; i < net_model.n_outputs; i++) {
    intptr_t arg[3] = {file, (intptr_t)out[i], (intptr_t)net_model.outputs[i].bytes};
    if (host_call(SYS_WRITE, arg) != 0) stop(2);
  }
  host_call(SYS_CLOSE, &file);
}

int bare_main(void) {
  static const void *in[16];
  static void *out[16];
  state = SEED;
  if (net_model.n_inputs > 16 || net_model.n_outputs > 16) return 2;
  void *workspace = block(net_model.workspace_size(NULL));
  for (uint32_t i = 0; i < net_model.n_inputs; i++) {
    void *p = block(net_model.inputs[i].bytes);
    fill(p, &net_model.inputs[i]);
    in[i] = p;
  }
  for (uint32_t i = 0; i < net_model.n_outputs; i++) out[i] = block(net_model.outputs[i].bytes);
  if (net_model.init(workspace) != 0 || run(workspace, in, out) != 0) return 1;
  write_outputs(out);
  return 0;
}

static void start(void) {
  memcpy(bare_data, bare_data_load, (size_t)(bare_data_end - bare_data));
  memset(bare_bss, 0, (size_t)(bare_bss_end - bare_bss));
#ifdef __ARM_FP
  *(volatile uint32_t *)0xe000ed88u |= 0xfu << 20;  // CPACR: the float unit is off after reset
  __asm__ volatile("dsb\n isb");
#endif
  stop(bare_main());
}

// Entered by the processor, or by an emulator of a process, whose stack lies elsewhere.
__attribute__((naked)) void bare_reset(void) {
  __asm__ volatile("ldr r0, =bare_stack\n mov sp, r0\n bl %c0" : : "i"(start));
}
