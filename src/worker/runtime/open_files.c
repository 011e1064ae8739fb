/* A file that was removed while a process has it open takes room that no walk over
 * directories sees: the way to hide a disk bomb. */
#include "../../os/os.h"
#include "internal.h"

#include <dirent.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

/* Beyond these nothing more is looked at, so that no workload can keep us busy. */
#define DESCRIPTORS_MAX 100000
#define FILES_MAX	4096

struct open_files {
	VEC(struct {
		dev_t dev;
		ino_t ino;
	})
	counted; /* several may have one open */
	size_t descriptors;
	int64_t bytes;
};

static void file_count(struct open_files *of, const struct stat *st)
{
	for (size_t i = 0; i < of->counted.len; i++) {
		if (of->counted.items[i].dev == st->st_dev &&
		    of->counted.items[i].ino == st->st_ino)
			return;
	}
	if (of->counted.len == FILES_MAX)
		return;
	*vec_push(&of->counted) = (typeof(*of->counted.items)){ st->st_dev, st->st_ino };
	of->bytes += (int64_t)st->st_blocks * 512;
}

static void process_count(struct open_files *of, const char *pid)
{
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return;
	for (const struct dirent *e = readdir(dir); e && of->descriptors < DESCRIPTORS_MAX;
	     e = readdir(dir)) {
		struct statfs fs;
		struct stat st;

		of->descriptors++;
		if (fstatat(dirfd(dir), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode) ||
		    st.st_nlink > 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/fd/%.12s", pid, e->d_name);
		/* Those in memory are under the limit of memory. */
		if (statfs(path, &fs) == 0 && fs.f_type != TMPFS_MAGIC &&
		    fs.f_type != HUGETLBFS_MAGIC)
			file_count(of, &st);
	}
	closedir(dir);
}

/* The processes of the control group at `path` of one hierarchy; -1 if it is not mounted
 * there. */
static int group_count(struct open_files *of, const char *mount, struct slice path)
{
	cleanup_strbuf struct strbuf file = STRBUF_INIT, pids = STRBUF_INIT;
	struct slice rest, pid;
	char text[24];

	strbuf_addf(&file, "/sys/fs/cgroup%s%.*s/cgroup.procs", mount, (int)path.len, path.ptr);
	if (file_read(file.buf, 1 << 20, &pids, NULL) < 0 || pids.len == 0)
		return -1;
	rest = (struct slice){ pids.buf, pids.len };
	while (slice_split(&rest, '\n', &pid)) {
		snprintf(text, sizeof(text), "%.*s", (int)MIN(pid.len, sizeof(text) - 1),
			 pid.ptr);
		if (*text)
			process_count(of, text);
	}
	return 0;
}

int64_t deleted_bytes(const struct json *inspect)
{
	cleanup_strbuf struct strbuf groups = STRBUF_INIT;
	struct open_files of = { 0 };
	const char *id = json_text(inspect, "Id");
	int64_t pid = json_int(json_find(inspect, "State"), "Pid");
	char path[64];
	struct slice rest, line, number, controllers;

	snprintf(path, sizeof(path), "/proc/%" PRId64 "/cgroup", pid);
	/* The number means something else where the engine sees other processes than we:
	 * then the group does not name the container. */
	if (pid <= 1 || !*id || file_read(path, 64 << 10, &groups, NULL) < 0 ||
	    !strstr(groups.buf, id))
		return 0;
	rest = (struct slice){ groups.buf, groups.len };
	while (slice_split(&rest, '\n', &line)) {
		if (!slice_split(&line, ':', &number) || !line.ptr ||
		    !slice_split(&line, ':', &controllers) || !line.ptr ||
		    !memmem(line.ptr, line.len, id, strlen(id)))
			continue;
		if ((slice_is(controllers, "pids") && group_count(&of, "/pids", line) == 0) ||
		    (controllers.len == 0 && group_count(&of, "", line) == 0))
			break;
	}
	vec_release(&of.counted);
	return of.bytes;
}
