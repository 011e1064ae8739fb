/* Shared by the files of base only. */
#ifndef TES_BASE_INTERNAL_H
#define TES_BASE_INTERNAL_H

#include "base.h"

/* Length in bytes (1 to 4) of the UTF-8 character at s and its code point; 0 if it is
 * malformed: overlong forms, surrogates and values over U+10FFFF are. */
size_t utf8_next(const char *s, size_t len, uint32_t *ret_cp);
/* Characters that move the cursor, end a line or reorder text on a terminal: C0, DEL, C1, line
 * and paragraph separators and the bidirectional controls. */
bool codepoint_is_control(uint32_t cp);

/* digits["."digits] at *s as whole and billionths; moves *s past it.  False: no digit, more
 * than nine decimals that are not zero, or the whole part does not fit. */
bool decimal_scan(const char **s, int64_t *ret_whole, int64_t *ret_nano);

/* SipHash-2-4 (Aumasson, Bernstein 2012). */
uint64_t siphash24(const uint64_t key[static 2], const void *p, size_t len);

#endif
