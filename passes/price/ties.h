// When two prices are equal within what prices can tell, the weights that take fewer bits win: the strategies against
// each other (price.c), and the forms of one strategy.
#ifndef QCC_PASSES_PRICE_TIES_H
#define QCC_PASSES_PRICE_TIES_H

#define TIE_SHARE 1.05
#define TIE_CYCLES 30
#define CODES_SHARE 0.9  // floats held as codes are the only form of their layer with its bits
#define WORDS_SHARE 0.8  // the same of words of several weights: a twentieth of the bytes
#define SIZE_SHARE 0.05  // the same where bytes are what is asked for

#endif
