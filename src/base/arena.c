#include "base.h"

#define ALIGN	  16
#define BLOCK_MIN ((size_t)4 << 10)
#define BLOCK_MAX ((size_t)1 << 20)

struct arena_block {
	struct arena_block *next;
	size_t used, size; /* of data */
	_Alignas(ALIGN) unsigned char data[];
};

/* Under the address sanitizer every piece is a block of its own, so that it sees overruns
 * inside the arena. */
#if defined(__SANITIZE_ADDRESS__)
#define ONE_PIECE_PER_BLOCK true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ONE_PIECE_PER_BLOCK true
#endif
#endif
#ifndef ONE_PIECE_PER_BLOCK
#define ONE_PIECE_PER_BLOCK false
#endif

void arena_init(struct arena *a, size_t cap)
{
	*a = (struct arena){ .cap = cap };
}

void arena_release(struct arena *a)
{
	struct arena_block *next;

	for (struct arena_block *b = a->head; b; b = next) {
		next = b->next;
		free(b);
	}
	a->head = NULL;
	a->used = 0;
}

static struct arena_block *block_new(size_t size)
{
	struct arena_block *b = xmalloc(sizeof(*b) + size);

	b->next = NULL;
	b->used = 0;
	b->size = size;
	return b;
}

/* The head is the block that small pieces come from; what would waste much of one gets a block
 * behind it. */
static struct arena_block *block_for(struct arena *a, size_t size)
{
	struct arena_block *head = a->head, *b;
	size_t next_size = head ? MIN(head->size * 2, BLOCK_MAX) : BLOCK_MIN;

	if (!ONE_PIECE_PER_BLOCK && head && head->size - head->used >= size)
		return head;
	if (ONE_PIECE_PER_BLOCK || size > next_size / 4) {
		b = block_new(size);
		if (head) {
			b->next = head->next;
			head->next = b;
		} else {
			a->head = b;
		}
		return b;
	}
	b = block_new(next_size);
	b->next = head;
	a->head = b;
	return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
	size_t cap = a->cap ? a->cap : ARENA_CAP_DEFAULT, rounded;
	struct arena_block *b;
	void *p;

	/* A caller that lets outsiders reach this has forgotten its own, smaller limit. */
	if (size > cap || a->used > cap - size) {
		fprintf(stderr, "arena: %zu bytes asked for with %zu of %zu used\n", size,
			a->used, a->cap);
		abort();
	}
	rounded = ONE_PIECE_PER_BLOCK ? size : (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	b = block_for(a, rounded);
	p = b->data + b->used;
	b->used += rounded;
	a->used += rounded;
	return memset(p, 0, size);
}

void *arena_alloc_array(struct arena *a, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		bytes = SIZE_MAX;
	return arena_alloc(a, bytes);
}

char *arena_strdup(struct arena *a, const char *s)
{
	return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *copy;

	assert(len < SIZE_MAX);
	copy = arena_alloc(a, len + 1);
	if (len)
		memcpy(copy, s, len);
	return copy;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char none[1], *s;
	int len;

	assert(fmt);
	va_start(ap, fmt);
	len = vsnprintf(none, sizeof(none), fmt, ap);
	va_end(ap);
	assert(len >= 0);
	s = arena_alloc(a, (size_t)len + 1);
	va_start(ap, fmt);
	vsnprintf(s, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return s;
}
