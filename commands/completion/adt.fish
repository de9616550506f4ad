# fish completion of adt: adt completion fish > /usr/share/fish/vendor_completions.d/adt.fish

function __adt_complete
	set -l words (commandline -opc)
	set -l program (string replace -r '^~' $HOME -- $words[1])
	set -l current (commandline -ct)
	test -n "$current"; or set current ''
	for line in ($program complete -- $words[2..-1] $current 2>/dev/null)
		if test "$line" = :files
			__fish_complete_path "$current"
		else
			echo $line
		end
	end
end
complete -c adt -f -a '(__adt_complete)'
