/* Checks of single values that several types share. */
#include "internal.h"

int check_label(const char *field, const char *value, struct err *err)
{
	size_t len = value ? strlen(value) : 0;

	if (len == 0)
		return 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)value[i];
		bool inner = i > 0 && i < len - 1;

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !(c == '-' && inner))
			return err_set_field(
				err, field, "'%.64s': use a-z, 0-9 and, not first or last, '-'",
				value);
	}
	if (len > NAME_MAX_BYTES)
		return err_set_field(err, field,
				     "%zu characters, at most %d are allowed: shorten it", len,
				     NAME_MAX_BYTES);
	return 0;
}

int check_hex(const char *field, const char *value, size_t bytes, struct err *err)
{
	if (str_empty(value))
		return 0;
	if (strlen(value) != 2 * bytes || strspn(value, "0123456789abcdef") != 2 * bytes)
		return err_set_field(err, field, "'%.80s': write %zu characters of 0-9 and a-f",
				     value, 2 * bytes);
	return 0;
}
