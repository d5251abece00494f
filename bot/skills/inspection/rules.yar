/*
 * What no skill has a good reason for. One finding refuses a version; the operator can overrule it.
 * `says` is the sentence that is shown. These are a net with holes: see docs/skills.md.
 */

rule runs_what_it_downloads
{
    meta:
        says = "It runs what it downloads, unseen"
    strings:
        $pipe = /(curl|wget)\b[^\n]{0,300}\|\s*(sudo\s+)?(env\s+)?(ba|z|da|k)?sh\b/ nocase
        $python = /(curl|wget)\b[^\n]{0,300}\|\s*(sudo\s+)?(python3?|node|perl|ruby)\b/ nocase
        $substituted = /\b(ba|z)?sh\s+(-c\s+)?["']?(\$\(|<\(|`)\s*(curl|wget)\b/ nocase
        $eval = /\beval\s+["']?(\$\(|`)\s*(curl|wget)\b/ nocase
        $powershell = /\b(iex|invoke-expression)\b[^\n]{0,120}\b(iwr|invoke-webrequest|downloadstring)\b/ nocase
        $powershell_piped = /\b(iwr|invoke-webrequest|downloadstring)\b[^\n]{0,200}\|\s*(iex|invoke-expression)\b/ nocase
    condition:
        any of them
}

rule runs_what_is_encoded
{
    meta:
        says = "It runs something that it hides in an encoding"
    strings:
        $decoded = /base64\s+(-d|-D|--decode)[^\n]{0,200}\|\s*(sudo\s+)?((ba|z|da)?sh|python3?|node|perl)\b/ nocase
        $python = /\b(exec|eval)\s*\(\s*[\w.\s(]{0,60}(b64decode|fromhex|unhexlify|decompress)\s*\(/
        $node = /\b(eval|Function)\s*\(\s*[\w.\s(]{0,40}(atob\s*\(|Buffer\.from\s*\([^)]{1,400}["']base64)/
        $powershell = /powershell(\.exe)?\s[^\n]{0,80}-e(nc|ncodedcommand)?\s+[A-Za-z0-9+\/=]{40,}/ nocase
    condition:
        any of them
}

rule opens_a_shell_to_somebody
{
    meta:
        says = "It opens a shell to somebody outside"
    strings:
        $bash = /\/dev\/tcp\/[^\s"']{3,}/
        $netcat = /\bnc(at)?\s[^\n]{0,60}\s-e\s*\/bin\/(ba)?sh/
        $python = /socket[^\n]{0,200}connect[\s\S]{0,300}(dup2|pty\.spawn)\s*\(/
    condition:
        any of them
}

rule sends_secrets_away
{
    meta:
        says = "It reads secrets of its host and sends something away"
    strings:
        $ssh = /\.ssh\/(id_[a-z0-9]+|authorized_keys)/
        $aws = ".aws/credentials"
        $openclaw = /\.openclaw\/(openclaw\.json|credentials|agents\/[^\s]{0,60}auth)/
        $browser = /(Login Data|cookies\.sqlite|logins\.json|key4\.db)\b/
        $wallet = /(wallet\.dat|\.config\/solana\/id\.json|\/keystore\/UTC--|Exodus\/exodus\.wallet)/ nocase
        $keychain = /security\s+(find-generic-password|dump-keychain)/
        $curl = /\bcurl\b[^\n]{0,200}\s(-d|--data[a-z-]*|-F|-T|--upload-file|-X\s*POST)\b/
        $requests = /\b(requests|httpx|axios)\.(post|put)\s*\(/
        $fetch = /\bfetch\s*\([^)]{0,300}method["']?\s*:\s*["']POST/
        $urllib = /urlopen\s*\([^)]{0,200}data\s*=/
    condition:
        any of ($ssh, $aws, $openclaw, $browser, $wallet, $keychain) and any of ($curl, $requests, $fetch, $urllib)
}

rule sends_to_a_drop
{
    meta:
        says = "It sends to an address that is made for collecting what others should not have"
    strings:
        $drop = /https?:\/\/([a-z0-9-]+\.)?(webhook\.site|requestbin\.(com|net)|pipedream\.net|interact\.sh|oast\.(pro|live|site|online|fun|me)|burpcollaborator\.net|requestcatcher\.com|beeceptor\.com)\b/ nocase
        $discord = /https?:\/\/(ptb\.|canary\.)?discord(app)?\.com\/api\/webhooks\/\d+/ nocase
    condition:
        any of them
}

rule asks_for_a_locked_archive
{
    meta:
        says = "It asks for an archive with a password, which hides what is in it"
    strings:
        $unzip = /\b(unzip|7z[ar]?)\s[^\n]{0,80}-[pP]\s?\S{2,}/
        $words = /(extract|unpack|unzip|archive)[^\n]{0,120}\b(pass(word|code)?)\s*(is\s*[:=]?|[:=])\s*[`"'*]{0,3}[\w-]{3,}/ nocase
    condition:
        any of them
}

rule talks_past_the_person
{
    meta:
        says = "It tells the assistant to hide something from its person, or to forget its own rules"
    strings:
        $ignore = /\b(ignore|disregard|forget)\s+(all\s+|any\s+)?(of\s+)?(your\s+|the\s+)?(previous|prior|above|earlier|system)\s+(instructions|prompts?|rules|messages)/ nocase
        $hide = /\b(do\s+not|don'?t|never)\s+(tell|inform|mention|reveal|show|notify|alert)\b[^\n.]{0,40}\b(the\s+)?(user|human|person|owner)\b/ nocase
        $silently = /\bwithout\s+(telling|informing|asking|notifying|alerting)\s+(the\s+)?(user|human|person|owner)\b/ nocase
    condition:
        any of them
}

rule writes_what_nobody_sees
{
    meta:
        says = "It has invisible characters, which people do not see and models read"
    strings:
        // Tags, bidirectional overrides, and rows of zero-width characters, in UTF-8.
        $tags = /(\xF3\xA0[\x80-\x81][\x80-\xBF]){4,}/
        $bidi = /\xE2\x80[\xAA-\xAE]|\xE2\x81[\xA6-\xA9]/
        $zero_width = /(\xE2\x80[\x8B\x8C\x8E\x8F]|\xE2\x81[\xA0-\xA4]|\xEF\xBB\xBF){4,}/
        $nul = { 00 }
    condition:
        // Three bytes come by chance in a picture, which has zeros at its beginning.
        $tags or $zero_width or ($bidi and not $nul in (0..4096))
}

rule is_a_program
{
    meta:
        says = "It is a compiled program, which nobody can read"
    condition:
        uint32(0) == 0x464C457F or uint16(0) == 0x5A4D or
        uint32be(0) == 0xFEEDFACE or uint32be(0) == 0xFEEDFACF or uint32be(0) == 0xCEFAEDFE or
        uint32be(0) == 0xCFFAEDFE or uint32be(0) == 0xCAFEBABE or uint32be(0) == 0x0061736D
}

rule is_an_archive
{
    meta:
        says = "It is an archive inside the archive, which hides what is in it"
    strings:
        $tar = "ustar"
    condition:
        uint32be(0) == 0x504B0304 or uint32be(0) == 0x504B0506 or uint16be(0) == 0x1F8B or
        uint32be(0) == 0x425A6839 or uint32be(0) == 0xFD377A58 or uint32be(0) == 0x377ABCAF or
        uint32be(0) == 0x52617221 or uint32be(0) == 0x28B52FFD or $tar at 257
}

rule changes_the_assistants_own_setup
{
    meta:
        says = "It changes its assistant's own configuration or rules"
    strings:
        $write = /(>>?|\btee\b(\s+-a)?|\bcp\b|\bmv\b|\bsed\s+-i)[^\n|]{0,160}\.openclaw\/(openclaw\.json|exec-approvals\.json)/
        $soul = /(>>?|\btee\b(\s+-a)?)\s*[^\n|]{0,80}\b(SOUL|AGENTS|HEARTBEAT)\.md\b/
        $config = /\bopenclaw\s+config\s+(set|unset|patch)\b/
        $policy = /\bsecurity\.installPolicy\b/
    condition:
        any of them
}
