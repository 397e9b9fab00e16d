function _img_completion
    set -l answer (env _IMG_COMPLETE=fish_complete COMP_WORDS=(commandline -cp | string collect) img 2>/dev/null)
    set -l kind ''
    for line in $answer
        if test -z "$kind"
            set kind $line
            continue
        end
        switch $kind
            case word open
                echo $line
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
        end
        set kind ''
    end
end

complete --no-files --command img --arguments '(_img_completion)'
