# bash completion of adt: adt completion bash > /usr/share/bash-completion/completions/adt

_adt() {
	local word rest cur=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=()
	while IFS=$'\t' read -r word rest; do
		if [ "$word" = :files ]; then
			compopt -o filenames 2>/dev/null
			COMPREPLY=($(compgen -f -- "$cur"))
			return
		fi
		COMPREPLY+=("$word")
	done < <("${COMP_WORDS[0]/#\~/$HOME}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _adt adt
