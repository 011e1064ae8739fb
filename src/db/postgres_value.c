/* What goes to PostgreSQL and comes from it, in its binary format. */
#include "internal.h"

#include <endian.h>
#include <libpq-fe.h>

static uint64_t read_be(const char *p, int size)
{
	uint64_t n = 0;

	for (int i = 0; i < size; i++)
		n = n << 8 | (uint8_t)p[i];
	return n;
}

/* What sum() of BIGINT gives: a count of groups, the weight of the first, sign and scale, then
 * groups in base 10000. */
static bool numeric_read(const char *p, int64_t *ret)
{
	int groups = (int16_t)read_be(p, 2), weight = (int16_t)read_be(p + 2, 2);
	unsigned sign = (unsigned)read_be(p + 4, 2);
	int64_t n = 0;

	if ((sign && sign != 0x4000) || weight > 4)
		return false;
	for (int i = 0; i < MAX(groups, weight + 1); i++) {
		int64_t group = i < groups ? (int64_t)read_be(p + 8 + 2 * i, 2) : 0;
		if (i > weight) {
			if (group)
				return false;
			continue;
		}
		/* Below zero all along, for the sake of INT64_MIN. */
		if (!mul_checked(n, 10000, &n) || !sub_checked(n, group, &n))
			return false;
	}
	return sign ? (*ret = n, true) : sub_checked(0, n, ret);
}

int postgres_types_check(const PGresult *res, const char *sql, bool *ret_numeric,
			 struct err *err)
{
	int columns = PQnfields(res);
	bool numeric = false;

	for (int i = 0; i < columns; i++) {
		switch (PQftype(res, i)) {
		case OID_NUMERIC: numeric = true; break;
		case OID_BOOL:
		case OID_BYTEA:
		case OID_CHAR:
		case OID_NAME:
		case OID_INT8:
		case OID_INT2:
		case OID_INT4:
		case OID_TEXT:
		case OID_OID:
		case OID_UNKNOWN:
		case OID_BPCHAR:
		case OID_VARCHAR:
		case OID_VOID: break;
		default:
			return err_set(err, ERR_INTERNAL,
				       "result column %.40s has type %u: "
				       "CAST it to BIGINT, TEXT or BYTEA: %.80s",
				       PQfname(res, i), PQftype(res, i), sql);
		}
	}
	*ret_numeric = numeric;
	return 0;
}

int postgres_numeric_check(const PGresult *res, int row, const char *sql, struct err *err)
{
	int64_t n;

	for (int i = 0; i < PQnfields(res); i++)
		if (PQftype(res, i) == OID_NUMERIC && !PQgetisnull(res, row, i) &&
		    !numeric_read(PQgetvalue(res, row, i), &n))
			return err_set(err, ERR_INTERNAL,
				       "result column %.40s is no integer of 64 bits: %.100s",
				       PQfname(res, i), sql);
	return 0;
}

struct db_value postgres_value(const PGresult *res, int row, int col)
{
	struct db_value v = { .kind = DB_KIND_NULL };

	assert(row >= 0 && row < PQntuples(res) && col >= 0 && col < PQnfields(res));
	if (PQgetisnull(res, row, col))
		return v;

	const char *p = PQgetvalue(res, row, col);
	int len = PQgetlength(res, row, col);
	v.kind = DB_KIND_INT;
	switch (PQftype(res, col)) {
	case OID_INT8: v.integer = (int64_t)read_be(p, 8); break;
	case OID_INT4: v.integer = (int32_t)read_be(p, 4); break;
	case OID_INT2: v.integer = (int16_t)read_be(p, 2); break;
	case OID_BOOL:
	case OID_OID: v.integer = (int64_t)read_be(p, len); break;
	case OID_NUMERIC:
		if (!numeric_read(p, &v.integer))
			assert(!"postgres_numeric_check came first");
		break;
	default:
		v.kind = PQftype(res, col) == OID_BYTEA ? DB_KIND_BLOB : DB_KIND_TEXT;
		v.ptr = p;
		v.len = (size_t)len;
	}
	return v;
}

/* ---- parameters ---- */

unsigned postgres_oid(enum db_kind kind)
{
	switch (kind) {
	case DB_KIND_INT: return OID_INT8;
	case DB_KIND_TEXT: return OID_TEXT;
	case DB_KIND_BLOB: return OID_BYTEA;
	case DB_KIND_TEXTS: return OID_TEXT_ARRAY;
	case DB_KIND_NULL: break;
	}
	return 0;
}

void postgres_params_fill(struct postgres_params *p, const struct db_value *values, int count)
{
	for (int i = 0; i < count; i++) {
		const struct db_value *v = &values[i];
		p->formats[i] = 1;
		switch (v->kind) {
		case DB_KIND_NULL:
			p->values[i] = NULL;
			p->lengths[i] = 0;
			break;
		case DB_KIND_INT:
			p->integers[i] = htobe64((uint64_t)v->integer);
			p->values[i] = (const char *)&p->integers[i];
			p->lengths[i] = 8;
			break;
		case DB_KIND_TEXT:
		case DB_KIND_BLOB:
		case DB_KIND_TEXTS:
			p->values[i] = v->len ? v->ptr : "";
			p->lengths[i] = (int)v->len;
			break;
		}
	}
}
