<?php
// The tests' app in PHP: does what the first word of a message says. It keeps nothing.

$body = file_get_contents('php://input');
if ($_SERVER['HTTP_WS_EVENT'] !== 'message') {
    if (($log = $_GET['log'] ?? '') !== '') {
        file_put_contents($log, $_SERVER['HTTP_WS_EVENT'] . "\n", FILE_APPEND | LOCK_EX);
    }
    setcookie('visits', '1');
    if (isset($_GET['refuse'])) {
        http_response_code(403);
        header('X-Why: because');
        echo 'not you';
    } elseif (isset($_GET['away'])) {
        header('Location: http://elsewhere.example/');
    }
    return;
}
header('Ws-To: self');
header('Content-Type: ' . $_SERVER['CONTENT_TYPE']);
[$verb, $rest] = explode(' ', $body, 2) + [1 => ''];
switch ($verb) {
    case 'show': echo $_SERVER[$rest] ?? '-'; break;
    case 'all': echo implode("\n", array_keys($_SERVER)); break;
    case 'pid': echo getmypid(); break;
    case 'sleep': usleep((int) $rest * 1000); echo 'slept'; break;
    case 'stderr': fwrite(fopen('php://stderr', 'w'), $rest); error_log($rest); echo 'said'; break;
    case 'warn': error_log("a\nforged line \x1b[31m" . str_repeat('x', 5000)); echo 'warned'; break;
    case 'fatal': undefined_function(); break;
    case 'die': posix_kill(getmypid(), 9); break;
    case 'status': http_response_code((int) $rest); break;
    case 'big': echo str_repeat('y', (int) $rest); break;
    default: echo $body;
}
