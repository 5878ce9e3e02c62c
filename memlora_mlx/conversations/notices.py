"""What messengers write into a chat themselves: notices, placeholders for media, marks of edits.

The texts are those of WhatsApp's exports in the languages that its users report most. A text in another language is
still known where it has the mark with which WhatsApp on iOS begins what it says itself (U+200E).
"""

from __future__ import annotations

import re

# Instead of a message: media that were not exported, deleted messages, calls. Compared in lower case, without the
# brackets and the full stop.
_PLACEHOLDERS = frozenset(
    line.strip()
    for line in """
null
media omitted|image omitted|video omitted|audio omitted|sticker omitted|gif omitted|document omitted|voice message omitted
contact card omitted|video note omitted|this message was deleted|you deleted this message|this message was deleted by admin
missed voice call|missed video call|missed group voice call|missed group video call|voice call|video call|view once photo
view once video|waiting for this message. this may take a while|waiting for this message|live location shared|message deleted
medien ausgeschlossen|medien weggelassen|bild weggelassen|video weggelassen|audio weggelassen|sticker weggelassen|gif weggelassen
dokument weggelassen|kontaktkarte ausgelassen|diese nachricht wurde gelöscht|du hast diese nachricht gelöscht
verpasster sprachanruf|verpasster videoanruf
médias omis|image absente|vidéo absente|audio omis|sticker omis|gif omis|document omis|document manquant|appel vocal manqué
ce message a été supprimé|vous avez supprimé ce message|appel vidéo manqué|fichier omis|carte de contact omise
multimedia omitido|archivo omitido|imagen omitida|video omitido|audio omitido|sticker omitido|gif omitido|documento omitido
se eliminó este mensaje|este mensaje fue eliminado|eliminaste este mensaje|llamada perdida|llamada de voz perdida
videollamada perdida|llamada de video perdida|tarjeta de contacto omitida
mídia oculta|arquivo de mídia oculto|ficheiro não revelado|imagem ocultada|vídeo omitido|áudio ocultado|figurinha omitida
imagem omitida|áudio omitido|mensagem apagada|esta mensagem foi apagada|você apagou esta mensagem|chamada de voz perdida
chamada de vídeo perdida|ligação de voz perdida|ligação de vídeo perdida
media omessi|immagine omessa|video omesso|audio omesso|sticker non incluso|sticker omesso|gif esclusa|documento omesso
questo messaggio è stato eliminato|hai eliminato questo messaggio|chiamata vocale persa|videochiamata persa|chiamata persa
media weggelaten|afbeelding weggelaten|gif weggelaten|document weggelaten|dit bericht is verwijderd
je hebt dit bericht verwijderd|u hebt dit bericht verwijderd|gemiste spraakoproep|gemiste video-oproep
medya dahil edilmedi|görüntü dahil edilmedi|video dahil edilmedi|ses dahil edilmedi|çıkartma dahil edilmedi|bu mesaj silindi
bu mesajı sildiniz|cevapsız sesli arama|cevapsız görüntülü arama
без медиафайлов|медиа пропущены|изображение отсутствует|видео отсутствует|аудио отсутствует|стикер отсутствует
данное сообщение удалено|сообщение удалено|вы удалили данное сообщение|пропущенный аудиозвонок|пропущенный видеозвонок
pominięto multimedia|pominięto media|obraz pominięto|grafika pominięta|wiadomość usunięta|ta wiadomość została usunięta
media tidak disertakan|gambar tidak disertakan|video tidak disertakan|audio tidak disertakan|stiker tidak disertakan
pesan ini dihapus|anda menghapus pesan ini|panggilan suara tak terjawab|panggilan video tak terjawab
تم استبعاد الوسائط|الصورة غير مدرجة|تم استبعاد الصورة|تم حذف هذه الرسالة|لقد حذفت هذه الرسالة|حذفت هذه الرسالة|مكالمة صوتية فائتة
המדיה לא נכללה|התמונה הושמטה|הסרטון הושמט|השמע הושמט|הסטיקר הושמט|הודעה זו נמחקה|ההודעה נמחקה|מחקת הודעה זו|שיחה קולית שלא נענתה
मीडिया छोड़ा गया|मीडिया शामिल नहीं है|यह संदेश मिटाया गया|आपने यह संदेश मिटाया
省略多媒体文件|图像已忽略|忽略图片|视频已忽略|音频已忽略|此消息已删除|您删除了此消息|已略過多媒體檔|已省略媒體|圖片已略過|已刪除此訊息|您已刪除此訊息
メディアは含まれていません|メディアなし|画像は含まれていません|画像は省略されました|このメッセージは削除されました|不在着信
미디어 파일이 생략됨|미디어파일 생략|사진 생략됨|동영상 생략됨|삭제된 메시지입니다|부재중 음성 통화|부재중 영상 통화
media utelämnades|bild utelämnades|det här meddelandet raderades|medier udeladt|billede udeladt|denne besked blev slettet
medier er utelatt|bilde utelatt|denne meldingen ble slettet|media jätettiin pois|kuva jätettiin pois|tämä viesti poistettiin
média vynechána|obrázek vynechán|tato zpráva byla smazána|média kihagyva|kép kihagyva|ezt az üzenetet törölték
conținut media omis|imagine omisă|acest mesaj a fost șters|файли медіа пропущено|це повідомлення видалено
παράλειψη πολυμέσων|αυτό το μήνυμα διαγράφηκε
""".replace("\n", "|").split("|")
    if line.strip()
)
_EDITED = re.compile(
    r"\s*<(?:this message was edited|diese nachricht wurde bearbeitet|se editó este mensaje|este mensaje fue editado|"
    r"ce message a été modifié|mensagem editada|esta mensagem foi editada|questo messaggio è stato modificato|"
    r"dit bericht is bewerkt|bu mesaj düzenlendi|данное сообщение изменено|сообщение изменено|wiadomość edytowana|"
    r"pesan ini diedit|تم تعديل هذه الرسالة|ההודעה נערכה|此消息已编辑|此訊息已編輯|このメッセージは編集されました|"
    r"이 메시지는 수정되었습니다|det här meddelandet redigerades|denne besked blev redigeret|meldingen ble redigert)\.?>\s*$",
    re.IGNORECASE,
)
# Messages that WhatsApp begins a chat with, and what it says of a chat's members.
_ENCRYPTED = re.compile(
    r"end-to-end|ende-zu-ende|bout en bout|extremo a extremo|ponta a ponta|uçtan uca|сквозн\w+ шифр|наскрізн|端到端|端對端|"
    r"エンドツーエンド|종단간|종단 간|بين الطرفين|תוך שימוש בהצפנה|מקצה לקצה|végpontok közötti|koncového šifrov|kryptere|krypterade",
    re.IGNORECASE,
)
_GROUP_VERB = (
    r"(?:created (?:this )?group|added |removed |left$|left the group|joined (?:using|from|the group|via)|changed (?:the|this|their|to)|"
    r"pinned a message|turned (?:on|off)|was added|were added|is now an admin|deleted this group|started a call|"
    r"hat (?:die gruppe|den gruppen|das gruppen|dich |diese gruppe|\S+ (?:hinzugefügt|entfernt))|ist (?:der gruppe beigetreten|beigetreten)|"
    r"a (?:créé|ajouté|retiré|supprimé|modifié|changé|rejoint|quitté)|creó|añadió|agregó|eliminó|cambió|salió del grupo|se unió|"
    r"criou|adicionou|removeu|mudou|saiu do grupo|entrou usando|ha (?:creato|aggiunto|rimosso|cambiato|modificato|abbandonato)|"
    r"heeft (?:de groep|de groeps|u |je |\S+ (?:toegevoegd|verwijderd)))"
)
_YOU = re.compile(
    r"^(?:you(?:'re| are) (?:now|no longer) an admin|you (?:joined|left|were added|were removed|created|changed|added|removed)\b.*|"
    r"your security code with .+ changed.*|.+ changed their phone number.*|you're now an admin|du bist jetzt admin.*|"
    r"du wurdest hinzugefügt|vous êtes désormais admin.*|ahora eres admin.*|agora você é admin.*|ora sei amministratore.*)\.?$",
    re.IGNORECASE,
)
_POLL = re.compile(
    r"^(?:poll|umfrage|encuesta|sondage|enquete|sondagem|sondaggio|опрос|anket|polling|ankieta) ?:\s*\n(.+)",
    re.IGNORECASE | re.DOTALL,
)
_OPTION = re.compile(r"^\w+ ?: (.+)$", re.MULTILINE)
_FILE_NAME = r"[^\s<>:][^\n<>:]{0,120}\.([A-Za-z0-9]{2,5})"
_ATTACHED = re.compile(rf"^({_FILE_NAME}) \(([^()\n]{{4,40}})\)(?:\n|$)")  # Android
_ATTACHED_IOS = re.compile(rf"<[^<>:\n]{{2,25}}: ({_FILE_NAME})>")
_ATTACHED_NAME = re.compile(r"^(?:IMG|VID|PTT|AUD|DOC|STK)-[0-9]{8}-WA[0-9]+\.\w+$")
_ATTACHED_WORDS = re.compile(
    r"attach|angehängt|adjunto|joint|anexad|allegat|bijgevoegd|ekli|файл|terlampir|مرفق|קובץ|附件|附加|添付|첨부|załącz|bifoga|vedhæft|vedlagt|liite",
    re.IGNORECASE,
)
PICTURES = ("png", "jpg", "jpeg", "webp", "gif", "heic")


def is_placeholder(text: str) -> bool:
    return text.strip(" .<>[]").casefold() in _PLACEHOLDERS


def is_encryption_notice(text: str) -> bool:
    """Whether it can be the sentence that WhatsApp begins a chat with. People write of encryption too."""
    return bool(_ENCRYPTED.search(text)) and not text.rstrip().endswith(("?", "？"))


def is_group_notice(text: str, names: frozenset[str]) -> bool:
    """Whether it says of somebody in the chat what messengers say ("Boris added you"), in one line."""
    if "\n" in text or len(text) > 200:
        return False
    if _YOU.match(text):
        return True
    # "Anna Keller added you": the longest name that fits
    return any(
        text.startswith(f"{name} ") and re.match(_GROUP_VERB, text[len(name) + 1 :], re.IGNORECASE)
        for name in (*names, "You", "Du", "Vous", "Tú", "Você", "Tu", "Je", "U")
    )


def without_edit_mark(text: str) -> str:
    return _EDITED.sub("", text)


def marked_poll(text: str) -> str:
    """A poll in one paragraph that says that it is one; other text as it is."""
    found = _POLL.match(text)
    if not found:
        return text
    question, _, rest = found[1].partition("\n")
    options = _OPTION.findall(rest)
    return f"[poll] {question.strip()} Options: {', '.join(options)}" if options else text


def attached_file(text: str) -> tuple[str, str] | None:
    """The name of the file that a message consists of or ends with, and the words beside it."""
    if (found := _ATTACHED.match(text)) and (_ATTACHED_NAME.match(found[1]) or _ATTACHED_WORDS.search(found[3])):
        return found[1], text[found.end() :].strip()
    if (found := _ATTACHED_IOS.search(text)) is not None:
        return found[1], (text[: found.start()] + text[found.end() :]).strip()
    return None
