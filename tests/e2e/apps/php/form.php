<?php
// What PHP makes of a hook of the dialect `typhoonae`, a line an event.
$line = [$_SERVER['PATH_INFO'], $_POST['body'], $_POST['from'] === $_SERVER['HTTP_X_TYPHOONAE_WEBSOCKET']];
file_put_contents($_GET['log'], json_encode($line) . "\n", FILE_APPEND | LOCK_EX);
