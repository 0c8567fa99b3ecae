# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ws_worker_global_optspecs
    string join \n log-level= log-format= h/help V/version
end

function __fish_ws_worker_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ws_worker_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ws_worker_using_subcommand
    set -l cmd (__fish_ws_worker_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ws-worker -n "__fish_ws_worker_needs_command" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_needs_command" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_needs_command" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -s V -l version -d 'Print version'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "demo" -d 'Serve a page to try the worker: chat, echo, binary, ping'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "serve" -d 'Serve sockets and tell an app about them by hooks'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "check" -d 'Read a configuration file and say what it means, or what is wrong'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "ctl" -d 'Tell a running worker: status, list, send, broadcast, close, drain, reload'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "connect" -d 'Connect as a client of any version: send lines, print messages'
complete -c ws-worker -n "__fish_ws_worker_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l listen -d 'Where clients connect: 127.0.0.1:9000, unix:/path, systemd:NAME, fd:0 [default: 127.0.0.1:9000]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l control -d 'Where the control API listens; on TCP it needs --token-file' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l token-file -d 'File with the token that the control API asks for' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l threads -d 'Threads, each with a loop of its own [default: one a processor]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l worker -d 'The name apps see as Ws-Worker [default: the host\'s name]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l trusted-proxies -d 'Addresses and networks of proxies whose forwarding headers are believed; peers on unix sockets always are [default: none]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l allowed-origins -d 'Origins that may connect: https://www.example.org, https://*.example.org, null, absent [default: the app decides]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l versions -d 'Protocol versions that are spoken [default: 75,76,7,8,13]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l handshake-timeout -d 'Time from accept until the socket is open [default: 10s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l heartbeat -d 'Ping a client after so long without a byte from it, or off [default: 25s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l pong-timeout -d 'Drop a client that sends no byte for so long after a ping [default: 20s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l idle-timeout -d 'Close a socket with 1001 after so long without a message from it, or off [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l heartbeat-text -d 'A text from clients that never reaches the app; { receive = "…", answer = "…" } answers it [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l close-timeout -d 'Time for the closing handshake, then the socket is dropped [default: 5s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l stall-timeout -d 'Drop a client that for so long takes nothing of what waits for it [default: 30s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l drain -d 'Time to close all sockets after SIGTERM [default: 20s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-head -d 'Size of a handshake\'s request line and headers [default: 16KiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-headers -d 'Number of headers in a handshake [default: 100]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-subprotocols -d 'Number of subprotocols that a handshake offers [default: 32]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-message -d 'Size of a message, all its fragments together [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-fragments -d 'Number of fragments of a message [default: 16384]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-empty-fragments -d 'Number of empty fragments of a message [default: 256]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-control-frames -d 'Number of control frames between the fragments of a message [default: 1024]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-length-digits -d 'Number of digits of a length in 75 and 76 [default: 9]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-output -d 'Bytes that may wait for one client [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l queue-messages -d 'Messages of one socket that may wait for the app; then the socket is not read [default: 64]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l queue-bytes -d 'Bytes of one socket that may wait for the app; then the socket is not read [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-hook-answer -d 'Size of an app\'s answer to a hook [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-groups -d 'Number of groups that one socket may be in [default: 64]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-group-name -d 'Length of a group\'s name [default: 128B]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-meta -d 'Size of what an app stores for one socket [default: 8KiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-connections -d 'Sockets in any state [default: 65536, or what the descriptor limit leaves]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-handshakes -d 'Handshakes in flight at the same time [default: 1024]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-per-peer -d 'Sockets from one peer address, or off; the peer is the proxy unless it is trusted [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l memory -d 'Size of all buffers of all sockets together [default: 256MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l max-control-body -d 'Size of a control request\'s body [default: 16MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l deflate -d 'Compress (permessage-deflate) where a client offers it [default: true]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l deflate-min -d 'Messages smaller than this are not compressed [default: 128B]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l deflate-takeover -d 'Remember the last messages of each socket to compress the next ones better [default: false]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -l deflate-memory -d 'Memory for what is remembered so, of all sockets together [default: 64MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l config -d 'The configuration file [default: /etc/ws-worker/ws-worker.toml, unless there is --app]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l app -d 'Where hooks go: http://HOST:PORT/PATH, https://HOST/PATH, http+unix:///SOCKET:/PATH, fcgi://HOST:PORT/SCRIPT, fcgi+unix:///SOCKET:/SCRIPT' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l listen -d 'Where clients connect: 127.0.0.1:9000, unix:/path, systemd:NAME, fd:0 [default: 127.0.0.1:9000]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l control -d 'Where the control API listens; on TCP it needs --token-file' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l token-file -d 'File with the token that the control API asks for' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l threads -d 'Threads, each with a loop of its own [default: one a processor]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l worker -d 'The name apps see as Ws-Worker [default: the host\'s name]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l trusted-proxies -d 'Addresses and networks of proxies whose forwarding headers are believed; peers on unix sockets always are [default: none]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l allowed-origins -d 'Origins that may connect: https://www.example.org, https://*.example.org, null, absent [default: the app decides]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l versions -d 'Protocol versions that are spoken [default: 75,76,7,8,13]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l dialect -d 'How hooks look to the app: "plain", or "typhoonae" as in 2010 [default: plain]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l secret-file -d 'File with the key that signs hooks; two files while one key replaces the other [default: none]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l ca-file -d 'https: PEM file with the certificate authorities to trust instead of the system\'s [default: the system\'s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l concurrency -d 'Hooks to one app in flight at the same time, in the whole process [default: 32, over FastCGI 4]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l hook-timeout -d 'Time for one attempt at a hook [default: 30s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l give-up -d 'How long a message is repeated before its socket is closed with 1013 [default: 60s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l retry -d '"unknown" repeats hooks whose outcome is unknown (at least once), "unsent" only those that surely did not arrive (at most once) [default: unknown]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l answer-to -d 'plain: who hears the answer to a message if it has no Ws-To: self, all, groups [default: nobody]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l forward-headers -d 'Headers of the client\'s handshake that every hook carries [default: Cookie,Authorization,User-Agent,Accept-Language,X-Request-Id,traceparent]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l started -d 'Tell the app about every start of the worker [default: false]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l server-name -d 'typhoonae: the scope of its broadcast; FastCGI: SERVER_NAME' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l keep -d 'FastCGI: keep connections open between hooks; each occupies a child of php-fpm [default: false]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l docroot -d 'FastCGI: a folder with a script for each path; /foo/bar is its file foo/bar_wsh.php [default: none]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l docroot-suffix -d 'FastCGI: the end of these scripts\' names [default: _wsh.php]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l handshake-timeout -d 'Time from accept until the socket is open [default: 10s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l heartbeat -d 'Ping a client after so long without a byte from it, or off [default: 25s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l pong-timeout -d 'Drop a client that sends no byte for so long after a ping [default: 20s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l idle-timeout -d 'Close a socket with 1001 after so long without a message from it, or off [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l heartbeat-text -d 'A text from clients that never reaches the app; { receive = "…", answer = "…" } answers it [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l close-timeout -d 'Time for the closing handshake, then the socket is dropped [default: 5s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l stall-timeout -d 'Drop a client that for so long takes nothing of what waits for it [default: 30s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l drain -d 'Time to close all sockets after SIGTERM [default: 20s]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-head -d 'Size of a handshake\'s request line and headers [default: 16KiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-headers -d 'Number of headers in a handshake [default: 100]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-subprotocols -d 'Number of subprotocols that a handshake offers [default: 32]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-message -d 'Size of a message, all its fragments together [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-fragments -d 'Number of fragments of a message [default: 16384]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-empty-fragments -d 'Number of empty fragments of a message [default: 256]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-control-frames -d 'Number of control frames between the fragments of a message [default: 1024]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-length-digits -d 'Number of digits of a length in 75 and 76 [default: 9]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-output -d 'Bytes that may wait for one client [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l queue-messages -d 'Messages of one socket that may wait for the app; then the socket is not read [default: 64]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l queue-bytes -d 'Bytes of one socket that may wait for the app; then the socket is not read [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-hook-answer -d 'Size of an app\'s answer to a hook [default: 1MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-groups -d 'Number of groups that one socket may be in [default: 64]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-group-name -d 'Length of a group\'s name [default: 128B]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-meta -d 'Size of what an app stores for one socket [default: 8KiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-connections -d 'Sockets in any state [default: 65536, or what the descriptor limit leaves]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-handshakes -d 'Handshakes in flight at the same time [default: 1024]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-per-peer -d 'Sockets from one peer address, or off; the peer is the proxy unless it is trusted [default: off]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l memory -d 'Size of all buffers of all sockets together [default: 256MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l max-control-body -d 'Size of a control request\'s body [default: 16MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l deflate -d 'Compress (permessage-deflate) where a client offers it [default: true]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l deflate-min -d 'Messages smaller than this are not compressed [default: 128B]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l deflate-takeover -d 'Remember the last messages of each socket to compress the next ones better [default: false]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -l deflate-memory -d 'Memory for what is remembered so, of all sockets together [default: 64MiB]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand check" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand check" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand check" -l config -d 'The configuration file' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand check" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "status" -d 'Show how the worker is: sockets, messages, hooks, the last closes'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "list" -d 'List the open sockets'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "send" -d 'Send a message to one socket'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "broadcast" -d 'Send a message to many sockets'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "close" -d 'Close a socket'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "drain" -d 'Close all sockets and end, as SIGTERM does'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "reload" -d 'Read the configuration again, as SIGHUP does'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and not __fish_seen_subcommand_from status list send broadcast close drain reload help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l route -d 'Only those of this route' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l group -d 'Only those in this group' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l limit -d 'Not more than this number' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l binary -d 'Send it as binary'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from send" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l route -d 'Only to this route' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l group -d 'Only to this group' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l except -d 'Not to this socket' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l binary -d 'Send it as binary'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from broadcast" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l code -d 'The close code' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l reason -d 'The reason, at most 123 bytes' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from close" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l control -d 'The control listener: 127.0.0.1:9001 or unix:/run/ws-worker/control.sock [default: as the configuration says]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l token-file -d 'File with the token [default: as the configuration says]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l config -d 'The worker\'s configuration [default: /etc/ws-worker/ws-worker.toml]' -r -F
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l timeout -d 'Time for the worker to answer' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -l json -d 'Print the worker\'s answer as JSON'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print help'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "status" -d 'Show how the worker is: sockets, messages, hooks, the last closes'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the open sockets'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "send" -d 'Send a message to one socket'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "broadcast" -d 'Send a message to many sockets'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "close" -d 'Close a socket'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Close all sockets and end, as SIGTERM does'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "reload" -d 'Read the configuration again, as SIGHUP does'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l log-level -d 'What is logged [default: the file\'s log_level, or info]; WS_WORKER_LOG=info,ws_worker::hook=debug sets it for single parts' -r -f -a "error\t''
warn\t''
info\t''
debug\t''
trace\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l log-format -d 'text, json or journal [default: text on a terminal, journal under systemd, json elsewhere]' -r -f -a "text\t''
json\t''
journal\t''"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l wire -d 'Version to speak: hixie75, hixie76, hybi07, hybi08, rfc6455' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l origin -d 'Origin to send [default: http://HOST in hixie75 and 76, which need one, otherwise none]; \'\' sends none' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l protocol -d 'Subprotocol to offer; may be repeated, best first' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l header -d 'Header to send, \'Name: value\'; may be repeated' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l print -d 'How binary messages are printed' -r -f -a "hex\t'hex:00ff10'
base64\t'base64:AP8Q'
raw\t'The bytes as they are'"
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l count -d 'End after this number of messages was received; the end of stdin then ends nothing' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l max-message -d 'Size of the largest message that is accepted, and of the longest line that is sent' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l ping -d 'Ping at once and then at this interval [1s], and print the round trips to stderr' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l timeout -d 'Time for everything together; exit 124 when it is over [default: none]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l handshake-timeout -d 'Time to connect, and time for the handshake' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l close-timeout -d 'Time for the closing handshake' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l close-code -d 'Code to close with [default: 1000]' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l reason -d 'Reason to close with, at most 123 bytes' -r
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l deflate -d 'Offer permessage-deflate (rfc6455)'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l relaxed -d 'Accept a hixie75 or 76 answer as proxies change it: other order and spelling, another location'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l binary -d 'Send lines as binary messages'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -l stay -d 'Do not close when stdin ends: stay until the server closes, or until --timeout'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -s q -l quiet -d 'Print messages and errors only'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -s v -l verbose -d 'Print the heads of the handshake to stderr, > sent, < received'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand connect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "demo" -d 'Serve a page to try the worker: chat, echo, binary, ping'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "serve" -d 'Serve sockets and tell an app about them by hooks'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "check" -d 'Read a configuration file and say what it means, or what is wrong'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "ctl" -d 'Tell a running worker: status, list, send, broadcast, close, drain, reload'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "connect" -d 'Connect as a client of any version: send lines, print messages'
complete -c ws-worker -n "__fish_ws_worker_using_subcommand help; and not __fish_seen_subcommand_from demo serve check ctl connect help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
