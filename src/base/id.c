#include "base.h"

#include <errno.h>
#include <sys/random.h>

static void system_fill(void *arg, void *buf, size_t len)
{
	unsigned char *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

const struct random random_system = { .fill = system_fill };

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

#define KIND_LEN 3 /* two letters and '_' */
#define BODY_LEN (ID_LEN - KIND_LEN)
#define TIME_DIGITS \
	10 /* 130 bits for 128: two zeros and the 48 bits of time are the first ten digits */

void id_make(const char kind[static 2], int64_t now_ms, const struct random *rnd,
	     char ret[static ID_SIZE])
{
	unsigned char uuid[16];
	unsigned __int128 n = 0;

	assert(now_ms >= 0 && now_ms < INT64_C(1) << 48);
	rnd->fill(rnd->arg, uuid, sizeof(uuid));
	for (int i = 0; i < 6; i++)
		uuid[i] = (unsigned char)(now_ms >> (40 - 8 * i));
	uuid[6] = (uuid[6] & 0x0f) | 0x70; /* version 7 */
	uuid[8] = (uuid[8] & 0x3f) | 0x80; /* variant of RFC 9562 */
	for (size_t i = 0; i < sizeof(uuid); i++)
		n = n << 8 | uuid[i];

	ret[0] = kind[0];
	ret[1] = kind[1];
	ret[2] = '_';
	for (int i = ID_LEN - 1; i >= KIND_LEN; i--) {
		ret[i] = alphabet[n & 31];
		n >>= 5;
	}
	ret[ID_LEN] = '\0';
}

static int digit_value(char c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

bool id_prefix_valid(const char *s, const char *kind)
{
	size_t len;

	if (!s)
		return false;
	len = strnlen(s, ID_LEN + 1);
	if (len < KIND_LEN || len > ID_LEN || s[2] != '_')
		return false;
	for (int i = 0; i < 2; i++) {
		if (s[i] < 'a' || s[i] > 'z' || (kind && s[i] != kind[i]))
			return false;
	}
	if (len > KIND_LEN && s[KIND_LEN] > '7') /* more than 128 bits */
		return false;
	for (size_t i = KIND_LEN; i < len; i++) {
		if (digit_value(s[i]) < 0)
			return false;
	}
	return true;
}

bool id_valid(const char *s, const char *kind)
{
	return id_prefix_valid(s, kind) && strlen(s) == ID_LEN;
}

int64_t id_time_ms(const char *id)
{
	int64_t ms = 0;

	assert(id_valid(id, NULL));
	for (int i = KIND_LEN; i < KIND_LEN + TIME_DIGITS; i++)
		ms = ms << 5 | digit_value(id[i]);
	return ms;
}
