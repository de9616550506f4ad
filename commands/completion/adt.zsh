#compdef adt
# zsh completion of adt: adt completion zsh > /usr/share/zsh/vendor-completions/_adt

_adt() {
	local -a found
	local line
	for line in "${(@f)$("${words[1]/#\~/$HOME}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		if [[ $line = :files ]]; then
			_files
			return
		fi
		# A colon ends the word for _describe.
		[[ -n $line ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	(( $#found )) && _describe adt found
}

if [[ ${funcstack[1]} = _adt ]]; then
	_adt "$@"
else
	compdef _adt adt
fi
