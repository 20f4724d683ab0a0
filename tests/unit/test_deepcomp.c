// Deep Compression: bit-exact round trips, sizes as the sum of their parts, Huffman codes against the entropy, and the
// table of VGG-16 from its densities (S42).
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "passes/compress/deepcomp.h"
#include "passes/compress/huffman.h"

static uint64_t state = 29;
static uint64_t next(void) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return state >> 33;
}

// `zeros` of a thousand weights are 0, the others have one of `values`.
static float *weights(Arena *arena, int64_t n, uint32_t zeros, uint32_t values) {
  float *w = NEW_ARRAY(arena, float, n + 1);
  for (int64_t i = 0; i < n; i++)
    if (next() % 1000 >= zeros) w[i] = ((float)(next() % values) - (float)values / 3.0f - 0.1f) / 16.0f;
  return w;
}

static void round_trip(const float *w, int64_t n, uint32_t gap_bits, Arena *arena) {
  Deep d;
  cr_assert(deep_of(w, n, gap_bits, arena, &d));
  for (int huffman = 0; huffman < 2; huffman++) {
    int64_t bytes;
    uint8_t *packed = deep_pack(&d, huffman, arena, &bytes);
    cr_assert(bytes == deep_size(&d, huffman).total, "%lld bytes, by formula %lld", (long long)bytes,
              (long long)deep_size(&d, huffman).total);
    float *out = NEW_ARRAY(arena, float, n + 1);
    cr_assert(deep_unpack(packed, bytes, n, out));
    cr_assert(memcmp(w, out, (size_t)n * sizeof *w) == 0);
    cr_assert_not(deep_unpack(packed, bytes, n + 1, out), "another count");
    if (d.nonzeros) cr_assert_not(deep_unpack(packed, bytes / 2, n, out), "half of the bytes");
  }
}

Test(deepcomp, round_trips_are_exact) {
  static const uint32_t zeros[] = {0, 400, 920, 990, 1000}, values[] = {1, 2, 15, 16, 32, 256}, bits[] = {4, 5, 8};
  static const int64_t counts[] = {1, 31, 4000};
  for (int z = 0; z < 5; z++)
    for (int v = 0; v < 6; v++)
      for (int b = 0; b < 3; b++)
        for (int c = 0; c < 3; c++) {
          Arena *arena = arena_new("test");
          round_trip(weights(arena, counts[c], zeros[z], values[v]), counts[c], bits[b], arena);
          arena_free(arena);
        }
}

Test(deepcomp, gaps_at_the_filler) {
  for (int64_t gap = 13; gap < 64; gap++) {
    Arena *arena = arena_new("test");
    float *w = NEW_ARRAY(arena, float, 80);
    w[gap] = 2;
    w[79] = -1;
    Deep d;
    cr_assert(deep_of(w, 80, 4, arena, &d));
    cr_assert(d.fillers == gap / 15 + (78 - gap) / 15);
    round_trip(w, 80, 4, arena);
    arena_free(arena);
  }
}

Test(deepcomp, refuses_many_values_and_infinities) {
  Arena *arena = arena_new("test");
  float w[300] = {0};
  Deep d;
  for (int i = 0; i < 300; i++) w[i] = (float)(i + 1);
  cr_assert_not(deep_of(w, 300, 5, arena, &d));
  cr_assert(deep_of(w, 256, 5, arena, &d));
  w[7] = INFINITY;
  cr_assert_not(deep_of(w, 100, 5, arena, &d));
  arena_free(arena);
}

Test(huffman, is_between_the_entropy_and_one_bit_more) {
  for (int round = 0; round < 20; round++) {
    int64_t count[HUFFMAN_SYMBOLS] = {0}, n = 0;
    double entropy = 0, kraft = 0;
    for (int i = 0; i < 40 + round * 10; i++) n += count[i] = (int64_t)(next() % (1U << (1 + next() % 16)));
    Huffman h;
    huffman_of(count, &h);
    for (int i = 0; i < HUFFMAN_SYMBOLS; i++) {
      if (count[i]) entropy -= (double)count[i] * log2((double)count[i] / (double)n);
      if (h.length[i]) kraft += ldexp(1, -h.length[i]);
      cr_assert((count[i] > 0) == (h.length[i] > 0));
    }
    double bits = (double)huffman_bits(&h, count);
    cr_assert_float_eq(kraft, 1, 1e-12);
    cr_assert(bits >= entropy - 1e-6 && bits <= entropy + (double)n, "%g bits, entropy %g", bits, entropy);
  }
}

Test(huffman, a_known_code) {
  int64_t count[HUFFMAN_SYMBOLS] = {['a'] = 45, ['b'] = 13, ['c'] = 12, ['d'] = 16, ['e'] = 9, ['f'] = 5};
  Huffman h;
  huffman_of(count, &h);
  cr_assert(huffman_bits(&h, count) == 224);
  cr_assert(h.length['a'] == 1 && h.code['a'] == 0);
}

// Layer, weights, density, bits of values and gaps plain and by Huffman code, parts of the dense size as printed.
static const struct {
  const char *name;
  double n, density, code, code_h, gap, gap_h, size, size_h;
} vgg16[] = {
    {"conv1_1", 1728, .58, 8, 6.8, 5, 1.7, .400, .2997},    {"conv1_2", 36864, .22, 8, 6.5, 5, 2.6, .098, .0699},
    {"conv2_1", 73728, .34, 8, 5.6, 5, 2.4, .143, .0891},   {"conv2_2", 147456, .36, 8, 5.9, 5, 2.3, .147, .0931},
    {"conv3_1", 294912, .53, 8, 4.8, 5, 1.8, .217, .1115},  {"conv3_2", 589824, .24, 8, 4.6, 5, 2.9, .097, .0567},
    {"conv3_3", 589824, .42, 8, 4.6, 5, 2.2, .170, .0896},  {"conv4_1", 1179648, .32, 8, 4.6, 5, 2.6, .131, .0729},
    {"conv4_2", 2359296, .27, 8, 4.2, 5, 2.9, .109, .0593}, {"conv4_3", 2359296, .34, 8, 4.4, 5, 2.5, .140, .0747},
    {"conv5_1", 2359296, .35, 8, 4.7, 5, 2.5, .143, .0800}, {"conv5_2", 2359296, .29, 8, 4.6, 5, 2.7, .117, .0652},
    {"conv5_3", 2359296, .36, 8, 4.6, 5, 2.3, .148, .0779}, {"fc6", 102760448, .04, 5, 3.6, 5, 3.5, .016, .0110},
    {"fc7", 16777216, .04, 5, 4.0, 5, 4.3, .015, .0125},    {"fc8", 4096000, .23, 5, 4.0, 5, 3.4, .071, .0524},
};

Test(deepcomp, the_table_of_vgg16) {
  double all = 0, pruned = 0, shared = 0, coded = 0;
  for (size_t i = 0; i < sizeof vgg16 / sizeof *vgg16; i++) {
    bool dense = vgg16[i].name[0] == 'f';
    double book = 4 * exp2(vgg16[i].code) / (4 * vgg16[i].n);
    double size = deep_payload(vgg16[i].density, vgg16[i].code, vgg16[i].gap) + book;
    double size_h = deep_payload(vgg16[i].density, vgg16[i].code_h, vgg16[i].gap_h) + book;
    // Densities are printed to a percent: half of one each way, and fillers on top.
    double slack = size / vgg16[i].density * 0.005 + (dense ? size * deep_fillers(vgg16[i].density, 5) : 0.015);
    cr_assert(fabs(size - vgg16[i].size) < slack + 0.001, "%s: %g of the bytes, printed %g", vgg16[i].name, size,
              vgg16[i].size);
    all += vgg16[i].n;
    pruned += vgg16[i].n * vgg16[i].density;
    shared += vgg16[i].n * size;
    coded += vgg16[i].n * size_h;
  }
  cr_assert_float_eq(deep_payload(.58, 8, 5), 0.2356, 1e-4);   // conv1_1: 23.6 % payload
  cr_assert_float_eq(256 * 4 / (1728 * 4.0), 0.148, 2e-4);     // and 14.8 % codebook
  cr_assert_float_eq(deep_payload(.04, 5, 5), 0.0125, 1e-12);  // fc6: 1.25 % payload
  cr_assert_float_eq(deep_fillers(.04, 5), 0.37, 0.005);       // 0.37 fillers per value
  cr_assert(round(all / pruned) == 13, "%g", all / pruned);
  double fc = 102760448 * deep_payload(.04, 5, 5) + 16777216 * deep_payload(.04, 5, 5);
  double shared_filled = shared + fc * deep_fillers(.04, 5);
  // With fillers at densities of whole percents; the table rounds them.
  cr_assert(fabs(all / shared_filled - 31) < 31 * 0.05, "%g", all / shared_filled);
  double fc_h = 102760448 * deep_payload(.04, 3.6, 3.5) + 16777216 * deep_payload(.04, 4.0, 4.3);
  double coded_filled = coded + fc_h * deep_fillers(.04, 5);
  cr_assert(fabs(all / coded_filled - 49) < 49 * 0.05, "%g", all / coded_filled);
}

// The same of the small networks: weights, density, bits of values and gaps, part of the dense size as printed.
// Densities are printed to a percent.
static const struct {
  const char *name;
  double n, density, code, gap, size;
} lenets[] = {
    {"300-100 ip1", 235200, .08, 6, 5, .031},  {"300-100 ip2", 30000, .09, 6, 5, .038},
    {"300-100 ip3", 1000, .26, 6, 5, .157},    {"lenet-5 conv1", 500, .66, 8, 5, .785},
    {"lenet-5 conv2", 25000, .12, 8, 5, .060}, {"lenet-5 ip1", 400000, .08, 5, 5, .027},
    {"lenet-5 ip2", 5000, .19, 5, 5, .069},
};

Test(deepcomp, the_tables_of_lenet) {
  for (size_t i = 0; i < sizeof lenets / sizeof *lenets; i++) {
    double d = lenets[i].density, payload = deep_payload(d, lenets[i].code, lenets[i].gap);
    double size = payload + exp2(lenets[i].code) / lenets[i].n + deep_fillers(d, 5) * d * lenets[i].gap / 32;
    double slack = payload / d * 0.005 + 0.003;
    cr_assert(fabs(size - lenets[i].size) < slack, "%s: %g of the bytes, printed %g", lenets[i].name, size,
              lenets[i].size);
  }
}

// Layers of the trained LeNets by their densities: what is counted is what the formula says, fillers included.
Test(deepcomp, sizes_of_seeded_layers_are_the_formula) {
  static const struct {
    int64_t n;
    uint32_t zeros;
  } layer[] = {{235200, 920}, {30000, 910}, {76960, 950}};
  for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
    Arena *arena = arena_new("test");
    Deep d;
    cr_assert(deep_of(weights(arena, layer[i].n, layer[i].zeros, 32), layer[i].n, 5, arena, &d));
    double density = (double)d.nonzeros / (double)layer[i].n;
    double bits = (double)layer[i].n * 32 * deep_payload(density, d.code_bits, 5) +
                  deep_fillers(density, 5) * (double)d.nonzeros * 5;
    DeepSize s = deep_size(&d, false);
    cr_assert_float_eq((double)(s.gaps + s.codes), bits / 8, 0.02 * bits / 8);
    cr_assert(s.total == s.header + s.book + s.gaps + s.codes);
    arena_free(arena);
  }
}
