# Run on a proxy, as root, by adt. Of a generated FILE the folder FILE.d holds a
# part for each autoscaler, named by its number. FILE is made of all parts, so
# that no autoscaler loses what another wrote; a lock keeps them apart.
#
#   FILE.d/first   what was there before adt, empty if nothing was
#   FILE.d/good    what was tested and loaded last; FILE goes back to it
#
# The first line of the answer is: adt-proxy OUTCOME WEBSERVERS
set -u
LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH
umask 022
mode=$1 file=$2 shard=$3 floor=$4 head=$5 none=$6 foot=$7 part=$8 check=$9
shift 9
reload=$1
dir=$file.d

answer() { echo "adt-proxy $1 $2"; }
parts() { cat /dev/null "$dir"/[1-9] 2>/dev/null; }

if [ "$mode" = look ]; then
	answer held "$(parts | wc -l)"
	cat "$dir/$shard" 2>/dev/null
	exit 0
fi

mkdir -p "$dir" || exit 1
exec 9>"$dir/lock" || exit 1
flock -w 15 9 || {
	answer busy 0
	exit 0
}
if [ ! -e "$dir/first" ]; then
	if [ -e "$file" ]; then cp -p "$file" "$dir/first.new"; else : >"$dir/first.new"; fi || exit 1
	mv "$dir/first.new" "$dir/first" || exit 1
fi

printf %s "$part" >"$dir/$shard.new" || exit 1
for k in 1 2 3 4 5 6 7 8 9; do
	if [ "$k" = "$shard" ]; then
		cat "$dir/$shard.new" || exit 1
	elif [ -e "$dir/$k" ]; then
		cat "$dir/$k" || exit 1
	fi
done >"$dir/parts.new" || exit 1
before=$(parts | wc -l)
after=$(wc -l <"$dir/parts.new")
if [ "$after" -lt "$floor" ] && [ "$after" -lt "$before" ]; then
	rm -f "$dir/$shard.new" "$dir/parts.new"
	answer floor "$before"
	exit 0
fi
{
	printf %s "$head" &&
		if [ -s "$dir/parts.new" ]; then cat "$dir/parts.new"; else printf %s "$none"; fi &&
		printf %s "$foot"
} >"$dir/whole.new" || exit 1
rm -f "$dir/parts.new"

# The part counts from when it is loaded: until then others write without it.
settle() { mv "$dir/$shard.new" "$dir/$shard"; }

if cmp -s "$dir/whole.new" "$file" && cmp -s "$dir/whole.new" "$dir/good"; then
	settle || exit 1
	rm -f "$dir/whole.new"
	answer unchanged "$after"
	exit 0
fi

restore() {
	if [ -e "$dir/good" ]; then
		cp "$dir/good" "$dir/back.new" && mv "$dir/back.new" "$file"
	elif [ -s "$dir/first" ]; then
		cp -p "$dir/first" "$dir/back.new" && mv "$dir/back.new" "$file"
	else
		rm -f "$file"
	fi
	rm -f "$dir/$shard.new"
}
# Not $( ): a daemon that a command starts would keep it from ending, and the
# lock held.
run() { (eval "$1") >"$dir/said" 2>&1 9>&- </dev/null; }

sync "$dir/whole.new" "$dir/$shard.new" 2>/dev/null
trap 'restore; exit 1' HUP INT TERM
mv "$dir/whole.new" "$file" || exit 1
run "$check" || {
	restore
	answer refused "$before"
	head -n 50 "$dir/said"
	exit 0
}
run "$reload" || {
	mv "$dir/said" "$dir/why"
	restore
	run "$reload"
	answer not-loaded "$before"
	head -n 50 "$dir/why"
	exit 0
}
cp "$file" "$dir/good.new" && mv "$dir/good.new" "$dir/good" && settle || exit 1
answer updated "$after"
